"""The demo: its page, and the endpoint behind it, served on a loopback port and called as a client would."""

import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
import pyvips
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from colorization.color import colorfulness
from colorization.image_io import read_image, read_settings

ROOT = Path(app.__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Gradio's folder for uploads and results."""
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def demo(embedded, cache):
    demo = app.build_demo(embedded)
    yield demo
    demo.close(verbose=False)


@pytest.fixture(scope="module")
def client(demo, tmp_path_factory) -> Client:
    port = free_port()
    _, url, _ = demo.queue(max_size=app.QUEUE_SIZE).launch(
        server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True
    )
    return Client(url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def colorize(client: Client, path: Path, **settings) -> tuple[tuple[str, str], str]:
    """Files of the gray and the colored preview, and of the download."""
    return client.predict(handle_file(path), api_name="/colorize", **settings)


def gray_file(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    """Gray levels (H, W), uint16, that 8 bits cannot hold."""
    return np.linspace(1000, 64000, 48 * 64).astype(np.uint16).reshape(48, 64)


def test_building_the_page_neither_serves_nor_colors(embedded, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the model ran")

    monkeypatch.setattr(embedded.unet, "forward", refuse)
    demo = app.build_demo(embedded)
    assert isinstance(demo, gr.Blocks)
    assert not demo.is_running


def test_endpoint_names_its_parameters_and_the_models_defaults(client, embedded):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(endpoints) == ["/colorize"]
    config, image, *others = embedded.config, *endpoints["/colorize"]["parameters"]
    assert image["parameter_name"] == "image" and not image["parameter_has_default"]
    assert {parameter["parameter_name"]: parameter["parameter_default"] for parameter in others} == {
        "prompt": "",
        "negative_prompt": config.default_negative_prompt,
        "steps": config.default_num_inference_steps,
        "guidance_scale": config.default_guidance_scale,
        "color_scale": config.default_color_scale,
        "seed": config.default_seed,
    }


def test_an_example_is_colored_at_its_own_size(client, embedded, example_files):
    (before, after), download = colorize(client, example_files[0])
    source = read_image(example_files[0])
    result = read_image(download, keep_color=True)
    assert Path(download).name == f"{example_files[0].stem}-colorized.png"
    assert result.size == source.size
    assert np.abs(result.luma.astype(int) - source.luma).max() <= 1
    assert colorfulness(torch.from_numpy(result.rgb / 255).permute(2, 0, 1)[None]).item() > 5
    settings = read_settings(download)
    assert settings["num_inference_steps"] == embedded.config.default_num_inference_steps
    assert settings["prompt"] == ""
    with Image.open(before) as gray, Image.open(after) as colored:
        assert gray.size == colored.size == source.size
        assert np.ptp(np.asarray(gray), axis=2).max() <= 1 < np.ptp(np.asarray(colored), axis=2).max()


def test_settings_reach_the_model(client, example_files):
    asked = {"prompt": "red bus", "negative_prompt": "blue", "steps": 2, "guidance_scale": 2.5, "color_scale": 0.5}
    _, download = colorize(client, example_files[1], seed=7, **asked)
    written = read_settings(download)
    asked["num_inference_steps"] = asked.pop("steps")
    assert {name: written[name] for name in [*asked, "seed"]} == asked | {"seed": 7}


def test_what_is_in_the_file_survives(client, cache, ramp, tmp_path):
    """16 bits, transparency and the resolution come back: the page hands over the very file."""
    rgba = np.dstack([ramp] * 3 + [ramp[::-1]])
    path = tmp_path / "scan.png"
    image = pyvips.Image.new_from_memory(rgba.tobytes(), 64, 48, 4, "ushort").copy(interpretation="rgb16")
    image.copy(xres=300 / 25.4, yres=300 / 25.4).pngsave(str(path))
    _, download = colorize(client, path, steps=1)
    result = read_image(download)
    assert result.luma.dtype == np.uint16
    assert np.abs(result.luma.astype(int) - ramp).max() <= 2
    assert np.array_equal(result.alpha, ramp[::-1])
    assert result.dpi == (300, 300)
    assert path.read_bytes() in [file.read_bytes() for file in cache.rglob("scan.png")]


def test_large_pictures_are_shown_smaller(client, tmp_path):
    path = gray_file(tmp_path / "wide.png", np.tile(np.arange(250, dtype=np.uint8), (40, 12)))
    (before, after), download = colorize(client, path, steps=1)
    for preview in (before, after):
        with Image.open(preview) as picture:
            assert picture.size == (2048, 27)
    assert read_image(download).size == (3000, 40)


def test_bad_input_gives_one_line(client, cache, example_files, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a picture\n")
    renamed = tmp_path / "<b>fake.jpg"
    renamed.write_text("not a picture\n")
    cases = [
        (lambda: colorize(client, text), "notes.txt: not an image"),
        (lambda: colorize(client, renamed), "fake.jpg: not an image"),
        (lambda: client.predict(None, api_name="/colorize"), "Choose a photograph first."),
        (lambda: colorize(client, example_files[0], steps=0), "less than minimum"),
        (lambda: colorize(client, example_files[0], color_scale=-1), "less than minimum"),
        (lambda: colorize(client, example_files[0], seed=-1), "`seed` must be between"),
    ]
    for call, message in cases:
        with pytest.raises(AppError, match=message) as caught:
            call()
        shown = str(caught.value)
        assert "\n" not in shown and "<b>" not in shown and str(cache) not in shown


def test_too_many_pixels_are_refused(client, tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (20_001, 10_000)).save(path)
    with pytest.raises(AppError, match="huge.png.*pixels"):
        colorize(client, path)


def test_warnings_of_the_library_reach_the_user(embedded, example_files, tmp_path):
    """Outside a request gradio turns what it would show into a Python warning."""
    handler = app._colorize_with(embedded, str(tmp_path))
    with pytest.warns(UserWarning) as caught:
        handler(str(example_files[0]), "a red bus " * 200, "blue", 1, 1.0, 1.0, 0)
    shown = [str(warning.message) for warning in caught]
    assert any("`negative_prompt` has no effect" in message for message in shown)
    assert any(message.startswith("the prompt is longer") and len(message) <= 300 for message in shown)


def test_other_warnings_are_not_shown():
    with pytest.warns(RuntimeWarning, match="for developers"):
        with app._problems_on_page("photo.jpg"):
            warnings.warn("for developers", RuntimeWarning, stacklevel=1)


def test_chosen_photograph_is_shown_in_gray(example_files, tmp_path):
    (left, right), _ = app._show_input(str(example_files[0]))
    assert left is right and left.mode == "L"
    assert app._show_input(None)[0] is None
    text = tmp_path / "notes.txt"
    text.write_text("not a picture\n")
    with pytest.warns(UserWarning, match="^notes.txt: not an image"):
        assert app._show_input(str(text))[0] is None


def test_results_are_deleted_in_time(demo, client, cache, example_files):
    """Every file of a request is one that gradio knows and deletes; the thumbnails of the examples stay."""
    from gradio.route_utils import delete_files_created_by_app

    colorize(client, example_files[0], steps=1)
    assert list(cache.rglob("*-colorized.png"))
    delete_files_created_by_app(demo, age=0)
    # gradio's own empty files, one for each upload, go with its folder when the server stops
    left = {file.name for file in cache.rglob("*") if file.is_file() and file.stat().st_size > 0}
    assert left == {file.name for file in example_files}


@pytest.mark.parametrize("name", ["COLORIZER_MODEL", "COLORIZER_ADAPTER"])
def test_a_model_that_cannot_be_loaded_is_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("COLORIZER_MODEL", raising=False)
    monkeypatch.delenv("COLORIZER_ADAPTER", raising=False)
    monkeypatch.setenv(name, str(tmp_path / "nothing-here"))
    assert app.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "nothing-here" in error


def test_exit_status_of_the_command(tmp_path):
    environment = os.environ | {"COLORIZER_MODEL": str(tmp_path / "nothing-here")}
    done = subprocess.run(
        [sys.executable, ROOT / "app.py"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: model ") and done.stderr.count("\n") == 1


def test_another_model_and_its_adapter_are_served(stock_sd_folder, adapter_folder, example_files, tmp_path):
    """The command itself, with a Stable Diffusion model and an adapter named by the environment."""
    port = free_port()
    environment = os.environ | {
        "COLORIZER_MODEL": str(stock_sd_folder),
        "COLORIZER_ADAPTER": str(adapter_folder),
        "GRADIO_SERVER_PORT": str(port),
    }
    server = subprocess.Popen([sys.executable, ROOT / "app.py"], env=environment, stdout=subprocess.DEVNULL)
    try:
        client = wait_for_client(f"http://127.0.0.1:{port}", server, tmp_path)
        _, download = colorize(client, example_files[0], steps=2)
    finally:
        server.terminate()
        server.wait(timeout=30)
    settings = read_settings(download)
    assert (settings["model"], settings["adapter"]) == ("tiny-stable-diffusion", "tiny-adapter")
    assert read_image(download).size == read_image(example_files[0]).size


def wait_for_client(url: str, server: subprocess.Popen, downloads: Path) -> Client:
    for _ in range(120):
        assert server.poll() is None, f"the server stopped with status {server.returncode}"
        try:
            return Client(url, verbose=False, download_files=downloads)
        except (OSError, ValueError, httpx.HTTPError):
            time.sleep(0.5)
    raise TimeoutError(url)
