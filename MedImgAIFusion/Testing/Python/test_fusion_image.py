"""Image-level fusion: what each method must keep, and its metrics against other implementations."""

import numpy as np
import pytest
from MedImgAIFusionLib.image import metrics
from MedImgAIFusionLib.image.methods import METHODS
from MedImgAIFusionLib.image.tasks import ColorOverlay, ImageFusion, colored
from MedImgAILib.core import Context, Geometry, InputError, Volume
from MedImgAILib.core.examples import example_volume
from MedImgAILib.core.itk import volume_from_itk
from testing_data import data_path

MULTISCALE = ("laplacian", "discrete_wavelet", "wavelet", "guided")


def fuse(first, second, **parameters):
    return ImageFusion().execute({"first": first, "second": second}, parameters, Context())


def pair(seed=0, shape=(12, 40, 44)):
    """Two arrays 0…1 that are sharp in different halves of the picture."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    scene = gaussian_filter(rng.random(shape), 1.0)
    scene = ((scene - scene.min()) / np.ptp(scene)).astype(np.float32)
    blurred = gaussian_filter(scene, 2.5)
    left = np.arange(shape[2]) < shape[2] // 2
    return scene, np.where(left, scene, blurred), np.where(left, blurred, scene)


@pytest.mark.parametrize("method", METHODS)
def test_an_image_with_itself_is_itself(method):
    scene, _, _ = pair()
    fused = METHODS[method]([scene, scene], (1.0, 1.0, 1.0))
    # Salient regions add a trace of the image not chosen, which is the same here.
    trace = 0.07 * np.minimum(scene, 1 - scene) if method == "salient" else 0
    np.testing.assert_allclose(fused, scene + trace, atol=2e-5)


@pytest.mark.parametrize("method", MULTISCALE)
def test_what_is_sharp_in_either_is_sharp_in_the_result(method):
    scene, first, second = pair()
    fused = METHODS[method]([first, second], (1.0, 1.0, 1.0))
    mean_error = np.abs((first + second) / 2 - scene)[..., 4:-4].mean()
    assert np.abs(fused - scene)[..., 4:-4].mean() < 0.5 * mean_error


def test_the_discrete_wavelet_gives_back_arrays_of_any_size_and_sees_no_smooth_slopes():
    from MedImgAIFusionLib.image.dwt import forward, inverse

    for shape in ((1, 17, 22), (9, 31, 8), (13, 10, 33)):
        array = np.random.default_rng(0).random(shape).astype(np.float32)
        axes = [tuple(axis for axis in range(3) if shape[axis] > 1)] * 2
        rest, details = forward(array, axes)
        assert rest.size < array.size / 2
        np.testing.assert_allclose(inverse(rest, details, axes), array, atol=3e-6)
    # Four vanishing moments: a cubic leaves nothing in the details (Cohen, Daubechies & Feauveau 1992).
    line = (np.arange(64.0) - 20) ** 3
    _, details = forward(line, [(0,)])
    assert np.abs(details[0][(1,)][4:-4]).max() < 1e-4 * np.abs(np.diff(line, 2)).max()


def test_salient_regions_are_those_of_the_image_with_more_to_see():
    rng = np.random.default_rng(3)
    first, second = np.full((2, 1, 64, 64), 0.3, np.float32)
    first[:, :, :32] += 0.2 * rng.random((1, 64, 32)).astype(np.float32)
    second[:, :, 32:] += 0.2 * rng.random((1, 64, 32)).astype(np.float32)
    fused = METHODS["salient"]([first, second], (1.0, 1.0, 1.0))
    np.testing.assert_allclose(fused[..., :24], first[..., :24] + 0.07 * 0.3, atol=1e-6)
    np.testing.assert_allclose(fused[..., 40:], second[..., 40:] + 0.07 * 0.3, atol=1e-6)


def test_simple_methods_are_what_they_say():
    a, b = np.random.default_rng(0).random((2, 4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(METHODS["weighted"]([a, b], None, (0.25, 0.75)), 0.25 * a + 0.75 * b, atol=1e-6)
    np.testing.assert_array_equal(METHODS["maximum"]([a, b], None), np.maximum(a, b))
    # Perfectly correlated images: the leading eigenvector is that of the scatter (1, 3).
    np.testing.assert_allclose(METHODS["pca"]([a, 3 * a], None), (0.25 + 0.75 * 3) * a, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_slices_and_constant_images_work(method):
    scene, first, second = pair(shape=(1, 30, 31))
    grid = Geometry.from_spacing((1, 30, 31), (0.5, 0.7, 5.0))
    result = fuse(Volume(first, grid), Volume(second, grid), method=method)["fused"]
    assert result.array.shape == (1, 30, 31) and np.isfinite(result.array).all()
    flat = Volume(np.full((1, 30, 31), 7, np.int16), grid)
    assert np.isfinite(fuse(flat, Volume(second, grid), method=method)["fused"].array).all()
    assert (fuse(flat, flat, method=method)["fused"].array == 0).all()


def test_the_second_image_is_brought_to_the_first_grid_and_only_used_where_it_reaches():
    first = example_volume()
    part = first.geometry.cropped((5, 5, 5), (10, 12, 14)).with_spacing((0.7, 0.8, 0.9))
    second = example_volume("second", geometry=part)
    fused = fuse(first, second, method="maximum")["fused"]
    own = fuse(first, first, method="maximum")["fused"]
    fused, own = fused.canonical().array, own.canonical().array
    assert fused.shape == own.shape
    k, j, i = np.meshgrid(*(np.arange(n) for n in first.geometry.shape), indexing="ij")
    outside = ~part.contains(first.geometry.ras(np.stack([i, j, k], axis=-1)))
    outside = first.with_array(outside).canonical().array
    np.testing.assert_array_equal(fused[outside], own[outside])
    assert (fused[~outside] != own[~outside]).any()
    away = second.transformed([[1, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(InputError, match="'second' does not overlap"):
        fuse(first, away)


def test_ssim_is_that_of_scikit_image():
    reference = pytest.importorskip("skimage.metrics").structural_similarity
    _, a, b = pair()
    a, b = 255 * a[3].astype(float), 255 * b[3].astype(float)
    theirs = reference(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    assert metrics.structural_similarity(a, b) == pytest.approx(theirs, abs=1e-6)


def made_pictures(size=96):
    """Two pictures and a fusion of them, the same on every machine."""
    y, x = np.mgrid[:size, :size].astype(float)
    r = np.hypot(x - 48, y - 46)
    ct = np.where(np.abs(r - 38) < 4, 230.0, 0) + np.where(r < 34, 60 + 25 * np.sin(x / 5) * np.cos(y / 7), 0)
    mr = np.where(r < 36, 90 + 60 * np.cos(r / 4) + 30 * np.sin(x / 3 + y / 9), 0)
    mr += np.where(np.hypot(x - 60, y - 40) < 8, 70, 0)
    first, second = (np.clip(np.round(v), 0, 255) for v in (ct, mr))
    return first, second, np.round(0.6 * np.maximum(first, second) + 0.25 * (first + second))


def test_figures_are_those_of_a_published_evaluator():
    """What the evaluator of CDDFuse gives (Zhaozixiang1228/MMIF-CDDFuse, commit fd8da1f, SSIM of range 2)."""
    first, second, fused = made_pictures()
    figures = metrics.evaluate(fused[None], [first[None], second[None]])
    published = {"MI": 3.32057, "SCD": 1.84139, "VIF": 0.58049, "Qabf": 0.75427, "SSIM": 1.10867, "Entropy": 4.59079}
    assert figures.keys() == published.keys()
    for name, value in published.items():
        # That evaluator takes equal edge strengths for infinitely alike, which makes a little of Qabf.
        assert figures[name] == pytest.approx(value, abs=2e-4 if name == "Qabf" else 1e-5), name


def test_ssim_with_a_uniform_window_is_that_of_scikit_image():
    reference = pytest.importorskip("skimage.metrics").structural_similarity
    first, second, _ = made_pictures()
    ours = metrics.structural_similarity(first, second, 2.0, "uniform")
    assert ours == pytest.approx(reference(first, second, data_range=2.0), abs=1e-9)


def test_entropy_and_information_of_known_images():
    image = np.repeat(np.arange(0, 256, 32), 100).astype(np.float32)
    assert metrics.entropy(image) == pytest.approx(3)
    assert metrics.mutual_information(image, 255 - image) == pytest.approx(3 * np.log(2))
    shuffled = np.tile(np.arange(0, 256, 32), 100).astype(np.float32)
    assert metrics.mutual_information(image, shuffled) == pytest.approx(0, abs=0.05)


def test_vif_is_that_of_an_independent_evaluator():
    vifp = pytest.importorskip("sewar.full_ref").vifp
    scene, first, _ = pair(shape=(2, 120, 130))
    scene, first = 255 * scene[1].astype(float), 255 * first[1].astype(float)
    assert metrics.visual_information_fidelity(scene, first) == pytest.approx(vifp(scene, first, sigma_nsq=2), abs=1e-6)


def test_figures_of_a_perfect_fusion():
    scene, _, _ = pair(shape=(2, 64, 64))
    picture = 255 * scene[0].astype(float)
    assert metrics.visual_information_fidelity(picture, picture) == pytest.approx(1, abs=1e-3)
    kept = 0.9994 / (1 + np.exp(-7.5)) * 0.9879 / (1 + np.exp(-4.4))
    assert metrics.edge_preservation(picture, [picture, picture]) == pytest.approx(kept, abs=1e-3)
    other = np.random.default_rng(1).random(picture.shape) * 255
    both = picture + other
    assert metrics.sum_of_correlations_of_differences(both, (picture, other)) == pytest.approx(2)
    noisy = picture + np.random.default_rng(0).normal(0, 20, picture.shape)
    assert metrics.visual_information_fidelity(picture, noisy) < 0.6


def test_multiscale_fusion_of_real_mr_keeps_more_edges_than_the_mean():
    import SimpleITK as sitk

    folder = "glioma_NC/brats_2013_pat0003_1/"
    images = []
    for name in ("T1c", "Flair"):
        whole = volume_from_itk(sitk.ReadImage(str(data_path(f"{folder}{name}_subtrMeanDivStd.nii.gz"))))
        slab = whole.array[70:80]
        images.append(Volume(slab, whole.geometry.cropped((70, 0, 0), slab.shape)))
    tables = {m: fuse(*images, method=m)["metrics"].columns for m in ("weighted", *MULTISCALE)}
    qabf = {m: t["value"][t["metric"].index("Qabf")] for m, t in tables.items()}
    assert all(qabf[m] > qabf["weighted"] + 0.03 for m in MULTISCALE)


def test_overlay_is_grey_without_function_and_coloured_with_it():
    grid = Geometry.from_spacing((3, 8, 9))
    anatomy = Volume(np.broadcast_to(np.linspace(0, 1, 9, dtype=np.float32), (3, 8, 9)).copy(), grid)
    function = Volume(np.zeros((3, 8, 9), np.float32), grid)
    function.array[1, 4] = 10.0
    inputs = {"anatomy": anatomy, "function": function}
    rgb = ColorOverlay().execute(inputs, {"range": (0.0, 10.0), "opacity": 1.0, "color": "green"}, Context())["overlay"]
    assert rgb.array.shape == (3, 8, 9, 3) and rgb.array.dtype == np.uint8
    assert (rgb.array[1, 4] == [0, 255, 0]).all()
    assert (np.ptp(rgb.array[0].astype(int), axis=-1) == 0).all() and rgb.array[0, 0, -1, 0] == 255


def test_colours_run_from_dark_to_bright():
    for name in ("hot", "iron", "green"):
        brightness = colored(np.linspace(0, 1, 50), name).sum(axis=-1)
        assert (np.diff(brightness) >= -1e-6).all() and brightness[0] == 0


def test_a_map_without_values_outside_the_body_is_transparent_there():
    anatomy = example_volume("anatomy")
    ratio = np.linspace(0.5, 1, anatomy.array.size, dtype=np.float32).reshape(anatomy.array.shape)
    ratio[:, :5] = np.nan
    ratio[0, 10, 10] = np.inf
    inputs = {"anatomy": anatomy, "function": anatomy.with_array(ratio)}
    overlay = ColorOverlay().execute(inputs, {"opacity": 1.0}, Context())["overlay"].array
    assert (overlay[:, :5] == overlay[:, :5, :, :1]).all() and (overlay[0, 10, 10] == overlay[0, 10, 10, 0]).all()
    assert (overlay[:, 6:, :, 0] > overlay[:, 6:, :, 2]).any()
    with pytest.raises(InputError, match="no voxel with a value"):
        ColorOverlay().execute(inputs | {"function": anatomy.with_array(ratio * np.nan)}, {}, Context())
