import ast
import json
import os
import runpy
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from conftest import EXAMPLES
from PIL import Image
from test_inception import random_weights, torch_fidelity_class

from colorization.color import colorfulness
from eval.metrics.feature_streams import FileStream, StatisticsStream
from eval.metrics.inception import InceptionFeatures, kernel_inception_distance
from eval.metrics.pixels import mean_ciede2000
from eval.metrics.streaming import Mean, read_picture
from eval.publish_metric import METRICS, ROOT, main, metric_names, publish
from eval.summary import frechet_metric, to_tensor

evaluate = pytest.importorskip("evaluate")
NAMES = ["ciede2000", "colorfulness", "delta_colorfulness", "fid", "hi_fid", "kid"]
ON_INCEPTION = ["fid", "hi_fid", "kid"]


@pytest.fixture(scope="module", autouse=True)
def own_caches(tmp_path_factory):
    """evaluate's copies of modules go into a folder of this test."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(folder / "modules"))
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", str(folder / "metrics"))
        patch.setattr(torch.hub, "_hub_dir", str(folder / "hub"))
        patch.setattr(sys, "path", list(sys.path))
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    pytest.importorskip("torch_fidelity")
    file = tmp_path_factory.mktemp("weights") / "random.pth"
    with pytest.MonkeyPatch.context() as patch:
        torch.save(random_weights(torch_fidelity_class(patch)), file)
    return file


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    files = sorted(EXAMPLES.glob("*.jpg"))[:4]
    return [np.array(Image.open(file).convert("RGB").resize((64, 48))) for file in files]


@pytest.fixture(scope="module")
def colored(originals) -> list[np.ndarray]:
    return [(0.6 * photo + 0.4 * photo.mean(axis=2, keepdims=True)).astype(np.uint8) for photo in originals]


def load(name: str, **options):
    return evaluate.load(str(METRICS / name), **options)


# Values


def test_all_metrics_are_listed():
    assert metric_names() == NAMES


def test_colorfulness(originals):
    metric = load("colorfulness")
    expected = [colorfulness(to_tensor(photo)).item() for photo in originals]
    result = metric.compute(predictions=originals)
    assert result["colorfulness"] == pytest.approx(np.mean(expected)) and result["n"] == 4
    assert result["standard_error"] == pytest.approx(np.std(expected, ddof=1) / 2)
    assert result["colorfulness_absolute"] < result["colorfulness"]
    with pytest.raises(ValueError, match="references"):
        metric.add_batch(predictions=originals, references=originals)


def test_delta_colorfulness(originals, colored):
    own, reference = ([colorfulness(to_tensor(photo)).item() for photo in part] for part in (colored, originals))
    result = load("delta_colorfulness").compute(predictions=colored, references=originals)
    assert result["delta_colorfulness_mean"] == pytest.approx(abs(np.mean(own) - np.mean(reference)))
    assert result["delta_colorfulness_each"] == pytest.approx(np.mean(np.abs(np.subtract(own, reference))))


def test_ciede2000(originals, colored):
    pairs = zip(colored, originals, strict=True)
    expected = np.mean([mean_ciede2000(to_tensor(a), to_tensor(b)).item() for a, b in pairs])
    result = load("ciede2000").compute(predictions=colored, references=originals)
    assert result["ciede2000"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="64 x 48 and 48 x 64"):
        load("ciede2000").add(prediction=originals[0], reference=np.rot90(originals[0]))


def test_inception_metrics(originals, colored, weights):
    network = InceptionFeatures(weights)
    own, reference = network(colored), network(originals)
    expected = frechet_metric(own, reference)["value"]
    fid = load("fid", weights=str(weights))
    for pair in zip(colored, originals, strict=True):
        fid.add(prediction=pair[0], reference=pair[1])
    assert fid.compute() == {"fid": pytest.approx(expected, rel=1e-3), "n": 4}

    kid = load("kid", weights=str(weights)).compute(predictions=colored, references=originals)
    value, error = kernel_inception_distance(own, reference, np.random.default_rng(0))
    assert kid["kid"] == pytest.approx(value, rel=1e-2) and kid["standard_error"] == pytest.approx(error, rel=1e-2)

    hi_fid = load("hi_fid", weights=str(weights)).compute(predictions=colored, references=originals)
    assert hi_fid["unmatched"] == 0 and hi_fid["hi_fid"] < 0.5 * expected


@pytest.mark.parametrize("name", ON_INCEPTION)
def test_there_are_no_values_without_weights(name):
    with pytest.raises(Exception, match="Inception weights"):
        load(name)


# Streams


def test_batches_change_nothing_and_compute_starts_over(originals, colored, tmp_path):
    metric = load("delta_colorfulness")
    whole = metric.compute(predictions=colored, references=originals)
    Image.fromarray(originals[0]).save(tmp_path / "first.png")
    metric.add(prediction=Image.fromarray(colored[0]), reference=tmp_path / "first.png")
    assert len(metric) == 1
    metric.add_batch(predictions=colored[1:3], references=originals[1:3])
    assert metric.compute(predictions=colored[3:], references=originals[3:]) == pytest.approx(whole)
    with pytest.raises(ValueError, match="no pictures"):
        metric.compute()
    with pytest.raises(ValueError, match="got 2 and 1"):
        metric.add_batch(predictions=colored[:2], references=originals[:1])
    with pytest.raises(ValueError, match="num_process"):
        load("delta_colorfulness", num_process=2, experiment_id="two")
    with pytest.raises(ValueError, match="uint8"):
        read_picture(np.zeros((4, 4, 3)))


def test_memory_does_not_grow_with_the_number_of_pictures():
    rng = np.random.default_rng(0)
    metric = load("colorfulness")

    def peak(count: int) -> int:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(count):
            metric.add_batch(predictions=[rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)])
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        peak(5)
        few, many = peak(20), peak(400)
    finally:
        tracemalloc.stop()
    assert many < few + 50_000  # 400 such pictures are 12 MB


def test_feature_streams_are_flat_and_right():
    rng = np.random.default_rng(0)
    dimension, count = 32, 3000
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    tracemalloc.start()
    statistics, file = StatisticsStream(dimension), FileStream(dimension)
    for vector in vectors:
        statistics.add(vector)
        file.add(vector)
    mean, covariance = statistics.moments
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < vectors.nbytes / 2
    np.testing.assert_allclose(mean, vectors.mean(axis=0, dtype=np.float64), atol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(vectors, rowvar=False, dtype=np.float64), atol=1e-10)
    np.testing.assert_array_equal(file.array(), vectors)


def test_mean_of_a_stream():
    values = np.random.default_rng(0).standard_normal(50) + 1e6
    mean = Mean()
    for value in values:
        mean.add(value)
    assert mean.mean == pytest.approx(values.mean(), rel=1e-12)
    assert mean.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(50), rel=1e-6)
    assert Mean().standard_error is None


# Publishing

_SCRIPT = """
import json, sys
sys.modules["eval"] = sys.modules["colorization"] = None  # as on a machine that has neither
import evaluate, numpy as np
predictions, references = np.load("pictures.npy")
results = {}
for name in json.loads(sys.argv[1]):
    options = {"weights": sys.argv[2]} if name in ("fid", "kid", "hi_fid") else {}
    metric = evaluate.load(name, **options)
    inputs = {"predictions": predictions, "references": references}
    metric.add_batch(**{key: list(inputs[key]) for key in metric.features})
    if name not in ("fid", "hi_fid"):  # their matrices of 2048 x 2048 take seconds
        results[name] = metric.compute()
print(json.dumps(results))
"""


def test_published_metrics_need_nothing_of_the_project(originals, colored, weights, tmp_path):
    for name in NAMES:
        publish(name, tmp_path / name)
    np.save(tmp_path / "pictures.npy", [colored, originals])
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_EVALUATE_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    done = processes.run("-c", _SCRIPT, json.dumps(NAMES), weights, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    for name in set(NAMES) - set(ON_INCEPTION):
        local = load(name)
        inputs = {"predictions": colored, "references": originals}
        assert local.compute(**{key: inputs[key] for key in local.features}) == pytest.approx(results[name])
    assert results["kid"]["standard_error"] > 0


def test_what_a_published_folder_holds(tmp_path, capsys):
    assert main(["hi_fid", "--output", str(tmp_path / "hi")]) == 0
    capsys.readouterr()
    files = {file.name for file in (tmp_path / "hi").iterdir()}
    vendored = {"color.py", "colors.py", "color_words.py", "frechet.py", "inception.py", "streaming.py"}
    assert files == vendored | {"feature_streams.py", "hi_fid.py", "app.py", "README.md", "requirements.txt"}
    packages = (tmp_path / "hi" / "requirements.txt").read_text().split()
    assert {"evaluate", "numpy", "pillow", "torch", "torch-fidelity", "torchmetrics", "datasets"} <= set(packages)
    for file in (tmp_path / "hi").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        ast.parse(text)
        assert "from eval" not in text and "from colorization" not in text
    card = (tmp_path / "hi" / "README.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("sdk: gradio", "## Inputs", "## Output", "## Limits", "```bibtex"))
    with pytest.raises(ValueError, match="not an empty folder"):
        publish("hi_fid", tmp_path / "hi")
    with pytest.raises(ValueError, match="name"):
        publish("psnr", tmp_path / "psnr")
    with pytest.raises(SystemExit, match="2"):
        main(["fid", "--output", str(tmp_path / "hi")])
    assert capsys.readouterr().err.startswith("error: ") and ROOT == METRICS.parent.parent


def test_the_app_of_a_published_metric_computes(originals, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    publish("colorfulness", tmp_path / "colorfulness")
    Image.fromarray(originals[0]).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path / "colorfulness")
    app = runpy.run_path("app.py")
    assert app["compute"](["../photo.png"])["n"] == 1
