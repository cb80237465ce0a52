"""Training of networks for segmentation and classification; the parts, for use by other tasks and scripts too.

=================  ================================================================================================
cases, sources     ``read_collection(path, kind)`` gives a :class:`.cases.Collection` of :class:`.cases.Case` from a
                   folder, a table or an .npz file; ``scene_segmentation``, ``scene_classification`` from core data
splits             ``folds(patients, classes, count, seed)``, ``holdout(…)``, ``check_apart(…)``,
                   ``given_parts(cases)``: by patient, always
sampling           :class:`.sampling.Sampler` (balance "none", "weighted", "under", "over"), ``sample_rng``
losses             ``classification_loss(kind, counts)``, ``segmentation_loss(kind)``, ``effective_number_weights``
loop               ``train(network, batch, loss, Settings(…), validate, folder, context, identity) -> Trained``; resumes
                   from ``folder`` to the same weights; ``batch(sample_numbers) -> loading.Batch``
=================  ================================================================================================

A model package that this makes for classification has ``task`` "classification", one output of kind "classes" whose
segment with label n names channel n − 1 of the network's scores, softmax activation, and its input's size and
intensity rule in the card, so that :func:`MedImgAILib.networks.preparation.prepare` gives what the network was
trained on. In two dimensions the network takes (B, C, J, I), in three (B, C, K, J, I); ``inference.dimensions`` says
which.
"""
