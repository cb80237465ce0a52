"""Prompts: what reaches the network, what is kept, undo, and the adapters with small networks of random weights."""

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, InputError, Points, Segment, Segmentation, Volume
from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
from MedImgAILib.core.model_inference import Inference
from MedImgAILib.core.model_intensity import Intensity
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.networks.prompts import own
from MedImgAILib.networks.prompts.channels import channels
from MedImgAILib.networks.prompts.given import Prompts
from MedImgAILib.networks.prompts.memory import Answers, Embeddings, answers, embeddings, key_of
from MedImgAILib.networks.prompts.task import PromptSegmentation, _example_package

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.fixture(autouse=True)
def fresh():
    embeddings.clear()
    answers.clear()


@pytest.fixture
def image():
    """An oblique, anisotropic image with a bright ball about RAS (5, -3, 8)."""
    directions = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1.0]])
    geometry = Geometry.from_spacing((20, 40, 36), (1.0, 1.2, 2.4), (-15, -30, -16), directions)
    k, j, i = np.indices(geometry.shape)
    distance = np.linalg.norm(geometry.ras(np.stack([i, j, k], axis=-1)) - [5, -3, 8], axis=-1)
    noise = np.random.default_rng(0).normal(0, 5, geometry.shape)
    return Volume((100 * (distance < 9) + noise).astype(np.float32), geometry, "ball")


class Told(Context):
    """Keeps the log."""

    lines = ()

    def on_log(self, level, message):
        self.lines = (*self.lines, message)


def run(image, model=None, action="segment", **inputs):
    parameters = {"model": str(model or _example_package()), "action": action}
    told = Told("cpu")
    outputs = PromptSegmentation().execute({"image": image} | inputs, parameters, told)
    return outputs | {"known": any("known already" in line for line in told.lines)}


def test_channels_are_gaussians_of_the_distance():
    marked = np.zeros((9, 10, 11), bool)
    marked[2, 3, 4] = marked[7, 8, 1] = True
    got = channels((9, 10, 11), marked, None, (slice(1, 4), slice(2, 5), slice(0, 3)))
    k, j, i = np.indices((9, 10, 11))
    nearest = np.minimum((k - 2) ** 2 + (j - 3) ** 2 + (i - 4) ** 2, (k - 7) ** 2 + (j - 8) ** 2 + (i - 1) ** 2)
    np.testing.assert_allclose(got[0], np.exp(-nearest / 4.5), atol=1e-6)
    np.testing.assert_allclose(got[2], np.exp(-nearest / 72), atol=1e-6)
    assert not got[[1, 3]].any() and got[4].sum() == 27
    marked[:, 3, 4] = True
    from scipy.ndimage import distance_transform_edt

    scribble = channels((9, 10, 11), None, np.pad(marked, 0))
    np.testing.assert_allclose(scribble[1], np.exp(-(distance_transform_edt(~marked) ** 2) / 4.5), atol=1e-5)


def test_prompts_from_points_boxes_and_scribbles():
    geometry = Geometry.from_spacing((8, 9, 10), (1.0, 2.0, 3.0), (5, 6, 7))
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[1, 2, 3], labels[4, 5, 6] = 1, 2
    scribbles = Segmentation.from_labels(labels, geometry, [Segment("Liver", 1), Segment("not this", 2)])
    prompts = Prompts.collect(Points([[5.0, 6, 7]]), None, Points([[5.0, 6, 7], [7, 10, 13]]), scribbles)
    marked = prompts.marks(prompts.inside, geometry)
    assert marked.sum() == 2 and marked[0, 0, 0] and marked[1, 2, 3]
    np.testing.assert_allclose(prompts.outside, geometry.ras(np.array([[6, 5, 4]])))
    assert prompts.box_on(geometry) == (slice(0, 3), slice(0, 3), slice(0, 3))


def test_wrong_prompts_are_refused(image):
    with pytest.raises(InputError, match="place a point in it"):
        run(image)
    with pytest.raises(InputError, match="place two opposite corners"):
        run(image, box=Points([[0.0, 0, 0]]))
    with pytest.raises(InputError, match="None of the points lies in"):
        run(image, inside=Points([[900.0, 0, 0]]))
    with pytest.raises(InputError, match="The box lies outside"):
        run(image, box=Points([[900.0, 0, 0], [950, 5, 5]]))
    with pytest.raises(InputError, match="no earlier answer"):
        run(image, action="undo")


def test_second_prompt_does_not_look_again(image):
    """The encoder runs once for a look; the answer is that of a fresh process."""
    first = run(image, inside=Points([[5.0, -3, 8]]), box=Points([[-6.0, -14, -3], [16, 8, 19]]))
    more = {"inside": Points([[5.0, -3, 8], [9, -3, 8]]), "box": Points([[-6.0, -14, -3], [16, 8, 19]])}
    second = run(image, **more)
    assert not first["known"] and second["known"]
    embeddings.clear()
    np.testing.assert_array_equal(run(image, **more)["segmentation"].layers[0], second["segmentation"].layers[0])
    other = image.with_array(image.array + 1)
    assert not run(other, **more)["known"], "another image is looked at anew"


def test_undo_restores_the_answer_before(image):
    box = Points([[-6.0, -14, -3], [16, 8, 19]])
    first = run(image, inside=Points([[5.0, -3, 8]]), box=box)["segmentation"].layers[0]
    second = run(image, inside=Points([[5.0, -3, 8]]), outside=Points([[12.0, -3, 8]]), box=box)
    assert (second["segmentation"].layers[0] != first).any()
    restored = run(image, action="undo")["segmentation"]
    np.testing.assert_array_equal(restored.layers[0], first)
    assert restored.geometry.same_grid(image.geometry)


def test_answers_are_few_and_packed():
    kept = Answers()
    masks = [np.random.default_rng(n).random((3, 5, 7)) > 0.5 for n in range(4)]
    for mask in (*masks, masks[-1]):
        kept.add("key", mask)
    np.testing.assert_array_equal(kept.back("key"), masks[2])
    np.testing.assert_array_equal(kept.back("key"), masks[1])
    np.testing.assert_array_equal(kept.back("key"), masks[0])
    assert kept.back("key") is None


def test_embeddings_give_way(monkeypatch):
    from MedImgAILib.networks import memory

    monkeypatch.setattr(memory, "free_memory", lambda device="cpu": 5 * 1000)
    kept = Embeddings()
    kept.get("a", lambda: [np.zeros(600, np.uint8)])
    kept.get("b", lambda: torch.zeros(150))
    made = []
    kept.get("b", lambda: made.append("b"))
    kept.get("a", lambda: made.append("a") or np.zeros(1))
    assert made == ["a"], "the older one was given up"


class Threshold(torch.nn.Module):
    """Stands for a perfect network: what is bright, where the box is if there is one."""

    looks = 0

    def embed(self, image):
        self.looks += 1
        return [image]

    def answer(self, embedding, prompts):
        return 20 * (embedding[0] - 0.5) - 40 * (prompts[:, 4:5].amax() - prompts[:, 4:5])


@pytest.mark.parametrize("most", [32, 16])
@pytest.mark.parametrize("turn", [None, ((1, 2, 0), (True, False, True))])
def test_what_is_found_lies_where_it_is(image, turn, most, monkeypatch):
    """In patient space, also where the structure goes on beyond the first look; and on the image's own grid."""
    monkeypatch.setattr(own, "_MOST", most)
    monkeypatch.setattr(own, "_CLOSEST", 16)
    stored = image.reordered(*turn) if turn else image
    network, kept = Threshold(), Embeddings()
    prompts = Prompts(np.array([[5.0, -3, 8]]), np.zeros((0, 3)))
    ordered = stored.canonical()
    mask = own.OwnNetwork(network).segment(ordered, prompts, kept, "key", Context("cpu"))
    voxels = ordered.geometry.ras(np.argwhere(mask)[:, ::-1])
    np.testing.assert_allclose(voxels.mean(axis=0), [5, -3, 8], atol=0.4)
    truth = ordered.array > 50
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9
    looks = network.looks
    assert looks > 1
    # A further click near by needs no new look.
    prompts = Prompts(np.array([[5.0, -3, 8], [7, -2, 9]]), np.array([[20.0, -3, 8]]))
    own.OwnNetwork(network).segment(ordered, prompts, kept, "key", Context("cpu"))
    assert network.looks == looks


@pytest.mark.parametrize("share", [0.5, 0.6])
def test_a_structure_that_fills_the_image_is_found_whole(image, share, monkeypatch):
    """Also if the look before the last was almost as wide as the image."""
    bright = image.with_array(np.random.default_rng(0).random(image.array.shape).astype(np.float32) + 5).canonical()
    extent = np.array(bright.geometry.shape) * bright.geometry.spacing_kji
    monkeypatch.setattr(own, "_CLOSEST", share * extent.max())
    middle = bright.geometry.ras((np.array(bright.geometry.shape[::-1]) - 1) / 2)
    network = Threshold()
    network.answer = lambda embedding, prompts: torch.full_like(embedding[0], 9.0)
    prompts = Prompts(middle[None], np.zeros((0, 3)))
    mask = own.OwnNetwork(network).segment(bright, prompts, Embeddings(), "key", Context("cpu"))
    assert mask.all() and network.looks == 2


def test_the_surest_look_counts(image, monkeypatch):
    """A network that is sure of little close up and of much from afar: the wide answer, and the other way round."""
    monkeypatch.setattr(own, "_CLOSEST", 16)
    monkeypatch.setattr(own, "_MOST", 16)
    ordered, wide = image.canonical(), []
    prompts = Prompts(np.array([[5.0, -3, 8]]), np.zeros((0, 3)))
    for sure_from_afar in (True, False):
        network, seen = Threshold(), []

        def answer(embedding, given, network=network, seen=seen, sure_from_afar=sure_from_afar):
            seen.append(embedding[0].numel())
            near = given[:, 2:3] > 0.3
            sure = (len(seen) > 1) == sure_from_afar
            return torch.where(near, 6.0 if sure else 0.3, -6.0 if sure else -0.3)

        network.answer = answer
        mask = own.OwnNetwork(network).segment(ordered, prompts, Embeddings(), "key", Context("cpu"))
        wide.append(mask.sum())
    assert wide[0] > 2 * wide[1] > 0


def test_only_what_was_pointed_at_is_found(image):
    """Two balls of the same brightness, one point; with a point in each, both."""
    index = np.stack(np.indices(image.array.shape)[::-1], axis=-1)
    other = np.linalg.norm(image.geometry.ras(index) - [-6, -14, -4], axis=-1) < 4
    two = image.with_array(np.where(other, np.float32(100), image.array)).canonical()
    other = image.with_array(other.astype(np.float32)).canonical().array > 0
    first = Prompts(np.array([[5.0, -3, 8]]), np.zeros((0, 3)))
    mask = own.OwnNetwork(Threshold()).segment(two, first, Embeddings(), "key", Context("cpu"))
    assert mask.any() and not (mask & other).any()
    both = Prompts(np.array([[5.0, -3, 8], [-6, -14, -4]]), np.zeros((0, 3)))
    mask = own.OwnNetwork(Threshold()).segment(two, both, Embeddings(), "key", Context("cpu"))
    assert (mask & other).sum() > 0.7 * other.sum()


def test_built_in_network_outlines_a_ball(image):
    """With the weights that come with the product; a bright ball in noise is easy."""
    inside = Points([[5.0, -3, 8]])
    found = PromptSegmentation().execute({"image": image, "inside": inside}, {}, Context("cpu"))["segmentation"]
    truth, mask = image.array > 50, found.layers[0] > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.7


@pytest.mark.parametrize("shape", [(1, 60, 50), (3, 4, 5), (70, 11, 9), (16, 16, 16)])
def test_odd_sizes(shape):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    volume = Volume(array, Geometry.from_spacing(shape, (1.0, 1.0, 4.0)))
    middle = volume.geometry.ras((np.array(shape[::-1]) - 1) / 2)
    assert run(volume, inside=Points([middle]))["segmentation"].layers[0].shape == shape


def adapter_package(folder, architecture, arguments, **fields):
    from MedImgAILib.core.model_networks import build

    torch.manual_seed(5)
    card = ModelCard(
        id="test.model", version="1.0.0", title="Test", task="segmentation",
        inputs=(ModelInput("image", "any", 1, fields.pop("spacing", None), fields.pop("orientation"),
                           Intensity("percentiles", lower=1, upper=99)),),
        outputs=(ModelOutput("segmentation", "segmentation", (Segment("Structure", 1),)),),
        architecture=architecture, arguments=arguments, license="Apache-2.0", citation="None.", training_data="None.",
        intended_use="Tests.", limits="Random weights.", **fields,
    )  # fmt: skip
    return ModelPackage.create(folder / "model", card, build(architecture, arguments).state_dict())


@pytest.fixture
def vista(tmp_path):
    pytest.importorskip("monai")
    return adapter_package(
        tmp_path, "monai.vista3d132", {"encoder_embed_dim": 8}, spacing=(1.57, 1.57, 1.57), orientation="SAR",
        inference=Inference(window=(32, 32, 32)),
    )  # fmt: skip


@pytest.fixture
def sam(tmp_path):
    pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
             "window_size": 4, "global_attn_indexes": [1], "output_channels": 16, "mlp_dim": 32,
             "num_pos_feats": 8}  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    arguments = {"vision": small, "prompt": prompt, "decoder": decoder}
    return adapter_package(tmp_path, "medimgai.Sam", arguments, orientation="LPS")


PROMPTS = {"inside": Points([[5.0, -3, 8], [2, -4, 6]]), "outside": Points([[12.0, 5, 3]])}


@pytest.mark.parametrize("which", ["vista", "sam"])
def test_adapters_answer_in_patient_space_and_keep_the_image(which, image, request):
    """The same voxels of the patient in any storage order; the second prompt finds the image known."""
    package = request.getfixturevalue(which)
    first = run(image, package.folder, **PROMPTS)
    found = first["segmentation"].canonical().layers[0]
    assert 0 < found.sum() < found.size
    again = run(image, package.folder, inside=PROMPTS["inside"], outside=Points([[12.0, 4, 3]]))
    if which == "vista":
        assert again["known"]
    turned = image.reordered((2, 0, 1), (True, False, True))
    other = run(turned, package.folder, **PROMPTS)["segmentation"].canonical().layers[0]
    overlap = 2 * ((found > 0) & (other > 0)).sum() / (found.sum() + other.sum())
    assert overlap > 0.98


def test_vista_is_given_the_voxels_that_were_pointed_at(vista, image):
    """Against the network's own forward pass on the same window."""
    from MedImgAILib.networks.preparation import prepare
    from MedImgAILib.networks.prompts.vista import Vista3D

    network = vista.network()
    adapter = Vista3D(network, vista.card)
    prompts = Prompts(PROMPTS["inside"].positions, PROMPTS["outside"].positions)
    got = adapter.segment(image, prompts, Embeddings(), "key", Context("cpu"))
    prepared = prepare(image, vista.card.inputs[0], Context("cpu"))
    start = adapter._start(prompts, prepared.geometry)
    window = np.zeros((1, 1, 32, 32, 32), np.float32)
    part = prepared.array[:, start[0] :, start[1] :, start[2] :][:, :32, :32, :32]
    window[0, :, : part.shape[1], : part.shape[2], : part.shape[3]] = part
    # The index is the offset from the grid's origin along its axes, over 1.57 mm (no voxel centre falls on a border).
    places = [
        (np.linalg.inv(prepared.geometry.directions) @ (p - prepared.geometry.origin) / 1.57)[::-1] - start
        for p in (*prompts.inside, *prompts.outside)
    ]
    with torch.no_grad():
        features = network.image_encoder(torch.from_numpy(window), with_label=False)[0]
        logits = network.point_head(features, torch.tensor(np.array([places])).float(), torch.tensor([[1, 1, 0]]))[0, 0]
    mask = np.zeros(prepared.geometry.shape, np.uint8)
    mask[tuple(slice(s, s + 32) for s in start)] = (logits.numpy() > 0)[
        : part.shape[1], : part.shape[2], : part.shape[3]
    ]
    wanted = prepared.back(mask) > 0
    assert (got == wanted).mean() > 0.999


def test_sam_slice_is_transformers_own_answer(sam):
    """A slice of the network's own size, prompts in pixels: what the class gives when it is called as documented."""
    array = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)
    volume = Volume(array, Geometry.from_spacing(array.shape, directions=np.diag([-1.0, -1, 1])))
    network = sam.network()
    from MedImgAILib.networks.prompts.sam import SegmentAnything

    adapter = SegmentAnything(network, sam.card)
    inside = volume.geometry.ras(np.array([[20.0, 30, 1]]))
    got = adapter.segment(volume, Prompts(inside, np.zeros((0, 3))), Embeddings(), "key", Context("cpu"))
    low, high = np.percentile(array, [1, 99])
    plane = torch.from_numpy(((array[1] - low) / (high - low)).clip(0, 1)).float().expand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        answer = network(
            pixel_values=(plane - mean) / std, input_points=torch.tensor([[[[20.0, 30.0]]]]),
            input_labels=torch.tensor([[[1]]]), multimask_output=False,
        ).pred_masks  # fmt: skip
        logits = torch.nn.functional.interpolate(answer[:, 0], (64, 64), mode="bilinear")[0, 0]
    assert (got[1] == (logits > 0).numpy()).mean() > 0.99


def test_roi_node_is_a_box():
    slicer = pytest.importorskip("slicer")
    from MedImgAILib.hosts.mrml.markups import read_points

    node = slicer.vtkMRMLMarkupsROINode()
    node.SetSize(10, 20, 30)
    matrix = node.GetObjectToNodeMatrix()
    for row, value in enumerate((1.0, 2.0, 3.0)):
        matrix.SetElement(row, 3, value)
    positions = read_points(node).positions
    assert positions.shape == (8, 3)
    np.testing.assert_allclose(positions.min(axis=0), [-4, -8, -12])
    np.testing.assert_allclose(positions.max(axis=0), [6, 12, 18])


def test_key_depends_on_values_and_grid(image):
    assert key_of(image) == key_of(image.with_array(image.array.copy()))
    changed = image.array.copy()
    changed[3, 4, 5] += 1
    assert key_of(image) != key_of(image.with_array(changed))
    moved = Volume(image.array, image.geometry.transformed(np.diag([1.0, 1, -1, 1])))
    assert key_of(image) != key_of(moved)
