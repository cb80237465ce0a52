"""Codec, parameters, transforms, terminology and the data classes' own checks."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from MedImgAILib.core import (
    BooleanParameter,
    BSplineTransform,
    ChoiceParameter,
    CompositeTransform,
    Context,
    DisplacementTransform,
    FloatParameter,
    Geometry,
    InputError,
    IntegerParameter,
    LinearTransform,
    ParameterError,
    Points,
    RangeParameter,
    Segment,
    Segmentation,
    Table,
    Terminology,
    TextParameter,
    Volume,
    registry,
)
from MedImgAILib.core.codec import decode, encode
from MedImgAILib.core.errors import listed
from MedImgAILib.core.examples import example_head, example_inputs, example_segmentation, example_volume
from MedImgAILib.core.terminology import BRAIN, MASS

# Codec

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def through_json(value):
    arrays = []
    text = json.dumps(encode(value, arrays))
    return decode(json.loads(text), arrays)


@given(plain)
def test_plain_values_return(value):
    assert through_json(value) == value


@given(st.sampled_from([np.float64, np.int64, np.float32, np.uint8, np.complex64, bool]), st.sampled_from([0, 3, 100]))
def test_arrays_return_with_type_and_shape(dtype, count):
    array = np.arange(2 * count).reshape(2, count).astype(dtype)
    back = through_json({"a": array})["a"]
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_every_example_returns():
    for task in registry():
        for value in task.example()[0].values():
            arrays, again = [], []
            description = encode(value, arrays)
            assert encode(decode(json.loads(json.dumps(description)), arrays), again) == description


@pytest.mark.parametrize(
    "damage", [{"$type": "os"}, {"$type": "Volume"}, {"$array": 7}, {"$numbers": [1], "dtype": "object"}, {"x": 1}]
)
def test_damaged_or_foreign_descriptions_are_refused(damage):
    with pytest.raises(InputError, match="damaged"):
        decode(damage, [])


def test_objects_cannot_be_sent():
    for value in (object(), np.array([object()]), {1, 2}, registry()):
        with pytest.raises(TypeError, match="cannot be sent"):
            encode(value, [])


# Parameters


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        (FloatParameter("a_mm", "A", 1.0, minimum=0, maximum=2), [0, 2, "1.5", np.float32(1)],
         [-0.1, 2.1, "x", None, float("nan"), float("inf"), True]),
        (IntegerParameter("a", "A", 1, minimum=0), [0, "7", 3.0, np.int64(4)], [-1, 1.5, "1.5", "x", False]),
        (BooleanParameter("a", "A", True), [True, "no", "ON", "0"], [1, "maybe", None]),
        (ChoiceParameter("a", "A", "x", choices={"x": "X", "y": "Y"}), ["y"], ["z", "", 1]),
        (TextParameter("a", "A", ""), ["", "text"], [1, None]),
        (RangeParameter("a", "A", (0, 1), minimum=-5, maximum=5), [(0, 0), "1, 2", [-5, 5], "1 2"],
         [(2, 1), (0, 6), "1", (1, 2, 3), (0, float("nan"))]),
    ],
)  # fmt: skip
def test_parameters_take_what_they_declare_and_nothing_else(parameter, good, bad):
    for value in good:
        checked = parameter.check(value)
        assert parameter.check(checked) == checked
    for value in bad:
        with pytest.raises(ParameterError, match=r"^A must be .*, not .*\.$"):
            parameter.check(value)


def test_a_default_out_of_range_is_a_mistake_of_the_declaration():
    with pytest.raises(ParameterError):
        FloatParameter("a", "A", 5.0, maximum=1)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ranges_survive_the_command_line(low, width):
    parameter = RangeParameter("a", "A", (0, 1))
    assert parameter.parse(f"{low!r} {low + width!r}") == (low, low + width)


# Transforms


def random_points(count=40):
    # Well inside the B-spline's support, at whose border its displacement ends abruptly.
    return np.random.default_rng(1).uniform(8, 18, (count, 3))


GRID = Geometry.from_spacing((8, 8, 8), (5, 5, 5), (-5, -5, -5))
VECTORS = np.random.default_rng(0).normal(0, 0.6, (8, 8, 8, 3))
LINEAR = LinearTransform(np.array([[0.9, 0.1, 0, 3], [-0.1, 1.1, 0.2, -4], [0, 0, 1, 5], [0, 0, 0, 1.0]]))


@pytest.mark.parametrize(
    "transform",
    [LINEAR, DisplacementTransform(VECTORS, GRID), BSplineTransform(VECTORS, GRID, inverted=True),
     CompositeTransform((LINEAR, BSplineTransform(VECTORS, GRID)))],
    ids=["linear", "displacement", "b-spline", "composite"],
)  # fmt: skip
def test_inverse_undoes_and_moving_the_patient_commutes(transform):
    points = random_points()
    np.testing.assert_allclose(transform.map_points_inverse(transform.map_points(points)), points, atol=5e-4)
    np.testing.assert_allclose(transform.map_points(transform.map_points_inverse(points)), points, atol=5e-4)
    move = np.array([[0, -1, 0, 4], [1, 0, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1.0]])
    there = LinearTransform(move).map_points
    np.testing.assert_allclose(
        transform.transformed(move).map_points(there(points)), there(transform.map_points(points)), atol=1e-3
    )


def lps(vectors):
    return np.asarray(vectors) * [-1, -1, 1]


def test_b_spline_and_displacement_agree_with_itk():
    """On a grid aligned with LPS, which is where ITK's B-spline coefficients are displacements along the axes."""
    grid = Geometry.from_spacing((8, 8, 8), (5, 5, 5), (30, 30, -5), np.diag([-1.0, -1, 1]))
    images = [sitk.GetImageFromArray(np.ascontiguousarray(lps(VECTORS)[..., c])) for c in range(3)]
    for image in images:
        image.SetSpacing((5, 5, 5))
        image.SetOrigin((-30, -30, -5))
    spline = sitk.BSplineTransform(images, 3)
    field = sitk.GetImageFromArray(np.ascontiguousarray(lps(VECTORS)), isVector=True)
    field.CopyInformation(images[0])
    displacement = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    points = random_points()
    for theirs, ours in (
        (spline, BSplineTransform(VECTORS, grid)),
        (displacement, DisplacementTransform(VECTORS, grid)),
    ):
        wanted = lps([theirs.TransformPoint(p.tolist()) for p in lps(points)])
        assert np.abs(wanted - points).max() > 0.3
        np.testing.assert_allclose(ours.map_points_inverse(points), wanted, atol=1e-6)


def test_singular_transforms_are_refused():
    with pytest.raises(InputError, match="invertible"):
        LinearTransform(np.zeros((4, 4)))


# Data


def test_terminology_survives_its_tag():
    for term in (BRAIN, MASS, Terminology()):
        assert Terminology.parse(term.serialize()) == term
    with pytest.raises(InputError, match="not a terminology entry"):
        Terminology.parse("brain")


@pytest.mark.parametrize(
    "build",
    [
        lambda g: Volume(np.zeros((2, 2)), g),
        lambda g: Volume(np.zeros((2, 2, 3)), g),
        lambda g: Segmentation((np.zeros((2, 2, 2)),), g, ()),
        lambda g: Segmentation((np.zeros((2, 2, 2), int),), g, (Segment("a", 1, layer=1),)),
        lambda g: Segmentation((np.zeros((2, 2, 2), int),), g, (Segment("a"), Segment("a", 2))),
        lambda g: Segment("a", 0),
        lambda g: Segment(""),
        lambda g: Points([[1, 2]]),
        lambda g: Points([[1, 2, np.nan]]),
        lambda g: Points([[1, 2, 3]], ("a", "b")),
        lambda g: Table({"a": [1, 2], "b": [1]}),
    ],
)
def test_inconsistent_data_is_refused_in_a_sentence(build):
    with pytest.raises(InputError, match=r"^[A-Z].*\.$"):
        build(Geometry(np.eye(4), (2, 2, 2)))


def test_segmentation_masks_and_labelmap():
    segmentation = example_segmentation()
    brain, mass = (segmentation.mask(n) for n in ("Brain", "Mass"))
    assert not (brain & mass).any() and brain.sum() > mass.sum() > 0
    np.testing.assert_array_equal(segmentation.labelmap(), brain + 2 * mass)
    with pytest.raises(InputError, match=r"has no segment 'x' \(it has: Brain, Mass\)"):
        segmentation.segment("x")


def test_examples_are_finite_and_the_head_has_a_brain():
    assert example_volume().is_finite and example_head().is_finite
    assert 1000 < (np.abs(example_head().array - 120) < 10).sum() * 0.125 < 2000, "mL of white matter"
    for task in registry():
        assert set(example_inputs(task)) <= {p.name for p in task.inputs}


def test_context_parts_nest_and_clip():
    seen = []

    class Recorder(Context):
        def on_progress(self, fraction, message):
            seen.append(round(fraction, 6))

    context = Recorder()
    with context.part(0.2, 0.6):
        context.progress(0.5)
        with context.part(0.5, 1.0):
            context.progress(2)
        context.progress(-1)
    context.progress(0.9)
    assert seen == [0.4, 0.6, 0.2, 0.9]


def test_a_sentence_keeps_the_users_spelling():
    geometry = Geometry.from_spacing((1, 2, 3))
    volume = Volume(np.zeros((1, 2, 3)), geometry, name="MRHead")
    assert (volume.label, volume.in_sentence) == ("Volume 'MRHead'", "volume 'MRHead'")
    assert Segmentation((), geometry, ()).in_sentence == "the segmentation"


def test_long_lists_of_names_are_shortened():
    assert listed(["a"]) == "a" and listed("abcdefghi") == "a, b, c, d, e, f, g, h, i"
    assert listed(f"Segment_{n}" for n in range(200)).endswith("Segment_6, Segment_7 and 192 more")
