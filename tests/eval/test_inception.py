import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import EXAMPLES
from PIL import Image

from eval.__main__ import main
from eval.metrics.frechet import frechet_distance
from eval.metrics.inception import (
    InceptionFeatures,
    WeightsMissing,
    find_weights,
    kernel_inception_distance,
    resize_bilinear,
    resize_clean,
)
from eval.summary import feature_statistics, frechet_metric

torch_fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(autouse=True)
def no_downloads(tmp_path_factory, monkeypatch):
    """torch.hub's folder is empty, whatever this machine has."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path_factory.mktemp("hub")))


def random_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random weights that keep the activations' scale, so that pictures differ in all features."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else value
        for key, value in network.state_dict().items()
    }


def torch_fidelity_class(monkeypatch) -> torch.nn.Module:
    """torch-fidelity's network as it is built, without the weights that it would download."""
    with monkeypatch.context() as patch:
        patch.setattr(torch_fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
        return torch_fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A file with random weights of the FID network."""
    file = tmp_path_factory.mktemp("weights") / "random.pth"
    with pytest.MonkeyPatch.context() as patch:
        torch.save(random_weights(torch_fidelity_class(patch)), file)
    return file


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    files = sorted(EXAMPLES.glob("*.jpg"))[:5]
    return [np.array(Image.open(file).convert("RGB").resize((80 + 9 * k, 64))) for k, file in enumerate(files)]


# Features


def test_features_are_torch_fidelitys_without_its_resizing(weights):
    """At 299 x 299 neither resizes, and torch-fidelity's own forward pass must give the same."""
    image = np.random.default_rng(0).integers(0, 256, (299, 299, 3), dtype=np.uint8)
    theirs = torch_fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights))
    (expected,) = theirs(torch.from_numpy(image).permute(2, 0, 1)[None])
    found = InceptionFeatures(weights)([image])
    assert found.shape == (1, 2048) and found.dtype == np.float32 and expected.std() > 0
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_features_do_not_depend_on_the_batch(weights, photos):
    network = InceptionFeatures(weights)
    together = network(photos)
    alone = np.concatenate([network([photo]) for photo in photos[-2:]])
    np.testing.assert_allclose(together[-2:], alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max())
    assert len(network.weights_sha256) == 64 and network.dimension == 2048 and "clean-fid" in network.resize


def test_torchvisions_network_and_ddcolors_normalization(tmp_path, photos):
    models = pytest.importorskip("torchvision.models")
    reference = models.inception_v3(weights=None, init_weights=False).eval()
    state = random_weights(reference)
    reference.load_state_dict(state)
    torch.save(state, tmp_path / "inception.pth")
    network = InceptionFeatures(tmp_path / "inception.pth", "torchvision")
    pooled = []
    reference.avgpool.register_forward_hook(lambda module, inputs, output: pooled.append(output.flatten(1)))
    with torch.no_grad():
        reference(resize_bilinear(photos[0])[None])
    np.testing.assert_allclose(network(photos[:1]), pooled[0].numpy(), rtol=1e-4, atol=1e-5)
    red = resize_bilinear(np.full((9, 9, 3), (255, 0, 0), np.uint8))[:, 0, 0]
    # Full and no intensity go through x / 2 + 1 / 2, then x std / 0.5 + (mean - 0.5) / 0.5.
    np.testing.assert_allclose(red, [0.458 - 0.03, 0.224 - 0.088, 0.225 - 0.188], atol=1e-6)


def test_resizing_is_bicubic_antialiased_and_unrounded():
    rng = np.random.default_rng(0)
    image = rng.integers(64, 192, (640, 500, 3), dtype=np.uint8)  # no overshoot to clip
    resized = resize_clean(image)
    assert resized.shape == (299, 299, 3) and resized.dtype == np.float32
    assert np.abs(resized - np.rint(resized)).max() > 0.4 and resized.min() >= 0 and resized.max() <= 255
    rounded = np.array(Image.fromarray(image).resize((299, 299), Image.Resampling.BICUBIC))
    assert np.abs(resized - rounded).max() <= 1.5  # Pillow rounds twice, once for each direction
    stripes = np.zeros((1196, 1196, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize_clean(stripes)[:, 3:-3] - 127.5).max() < 1  # without antialiasing: 0 or 255


def test_bad_weights_and_pictures_are_refused(weights, tmp_path):
    with pytest.raises(WeightsMissing, match="weights-inception-2015-12-05"):
        find_weights()
    with pytest.raises(ValueError, match="variant"):
        find_weights("v4")
    with pytest.raises(ValueError, match="not a file"):
        InceptionFeatures(tmp_path / "nothing.pth")
    with pytest.raises(ValueError, match="torchvision"):
        InceptionFeatures(weights, "torchvision")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"text\.pth does not hold"):
        InceptionFeatures(tmp_path / "text.pth")
    torch.save({"code": Path}, tmp_path / "code.pth")  # a pickle that is more than tensors
    with pytest.raises(ValueError, match=r"code\.pth does not hold"):
        InceptionFeatures(tmp_path / "code.pth")
    with pytest.raises(ValueError, match="uint8"):
        resize_clean(np.zeros((4, 4, 3)))


def test_downloaded_weights_are_found(weights):
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "weights-inception-2015-12-05-6726825d.pth").symlink_to(weights)
    assert find_weights("fid").name == "weights-inception-2015-12-05-6726825d.pth"


# Distances


class Projection(torch.nn.Module):
    """Random features of pictures, as torchmetrics wants its networks."""

    num_features = 24

    def __init__(self):
        super().__init__()
        weight = torch.randn(self.num_features, 3 * 8 * 8, generator=torch.Generator().manual_seed(1))
        self.register_buffer("weight", weight.double())

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.tanh(pictures.double().flatten(1) / 255 @ self.weight.T / 4)


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    first = torch.randint(0, 256, (200, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return first, (first.float() * 0.8 + 10 * torch.rand(first.shape, generator=generator)).byte()


def test_fid_is_torchmetrics(pictures):
    fid = pytest.importorskip("torchmetrics.image.fid")
    theirs = fid.FrechetInceptionDistance(feature=Projection(), input_img_size=(3, 8, 8)).set_dtype(torch.float64)
    theirs.update(pictures[0], real=True)
    theirs.update(pictures[1], real=False)
    features = [Projection()(part).numpy() for part in pictures]
    ours = frechet_metric(features[1], features[0])
    assert ours["value"] == pytest.approx(theirs.compute().item(), rel=1e-6) and ours["n"] == 200


def test_fid_is_pytorch_fids(pictures):
    """With the matrix root of scipy, as pytorch-fid has it."""
    a, b = (Projection()(part).numpy() for part in pictures)
    moments = a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(moments[1] @ moments[3]).real
    expected = ((moments[0] - moments[2]) ** 2).sum() + np.trace(moments[1] + moments[3] - 2 * root)
    assert frechet_metric(a, b)["value"] == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(*moments) == pytest.approx(expected, rel=1e-6)


def test_fid_of_a_set_with_itself_is_zero(pictures):
    features = Projection()(pictures[0]).numpy()
    assert frechet_metric(features, features)["value"] == pytest.approx(0, abs=1e-9)
    assert frechet_metric(features[:10], features[:10])["value"] == pytest.approx(0, abs=1e-9)


def test_fid_of_few_pictures_is_that_of_their_covariances(pictures):
    a, b = (Projection()(part).numpy()[:12] for part in pictures)
    moments = a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False)
    found = frechet_metric(a, b)
    assert found["value"] == pytest.approx(frechet_distance(*moments), rel=1e-6)
    assert found["relative"] == pytest.approx(found["value"] / np.trace(moments[3]))


def test_kid_is_the_unbiased_squared_mmd(pictures):
    """Averaged over many halves, the estimate of the whole sets."""
    a, b = (Projection()(part).numpy() for part in pictures)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def off_diagonal(matrix):
        return (matrix.sum() - np.trace(matrix)) / (len(matrix) * (len(matrix) - 1))

    expected = off_diagonal(kernel(a, a)) + off_diagonal(kernel(b, b)) - 2 * kernel(a, b).mean()
    value, error = kernel_inception_distance(a, b, np.random.default_rng(0), subsets=400)
    assert error > 0 and abs(value - expected) < 0.5 * error
    same, error = kernel_inception_distance(a, a[::-1], np.random.default_rng(0))
    assert abs(same) < 4 * error + 0.1 * expected
    with pytest.raises(ValueError, match="n at least 4"):
        kernel_inception_distance(a[:3], b[:3], np.random.default_rng(0))


# The whole path


def test_scores_with_random_weights(weights, tmp_path):
    """Everything that Inception takes part in; the numbers mean nothing, the path is the one of the real weights."""
    from test_score import write_run

    run = write_run(tmp_path / "run")
    command = ["score", str(run), "--inception-weights", str(weights), "--cache", str(tmp_path / "cache")]
    assert main(command) == 0
    result = json.loads((run / "score.json").read_text(encoding="utf-8"))
    rows = {name: {key: row[key] for key in ("fid", "kid", "hi_fid")} for name, row in result["rows"].items()}
    assert rows["gray"]["fid"]["value"] > rows["output"]["fid"]["value"] > rows["vae"]["fid"]["value"] > 0
    assert rows["original"]["fid"]["value"] == pytest.approx(0, abs=1e-6 * rows["gray"]["fid"]["value"])
    assert rows["output"]["hi_fid"]["value"] < 0.5 * rows["output"]["fid"]["value"]  # fading is all that is wrong
    assert rows["gray"]["hi_fid"]["value"] is None and rows["output"]["kid"]["standard_error"] > 0
    assert len(result["weights"]["inception"]) == 64 and "clean-fid" in result["settings"]["resize"]["inception"]
    assert len(list((tmp_path / "cache").glob("inception-*.npy"))) == 2


def test_statistics_of_features_in_a_file_take_little_memory(tmp_path):
    features = np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float32, (20000, 64))
    features[:] = np.random.default_rng(0).standard_normal(features.shape)
    tracemalloc.start()
    statistics = feature_statistics(features)
    kernel_inception_distance(features, features, np.random.default_rng(0), subsets=2, subset_size=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert statistics.n == 20000 and peak < features.nbytes / 2
    np.testing.assert_allclose(statistics.covariance, np.cov(features, rowvar=False, dtype=np.float64), atol=1e-9)
