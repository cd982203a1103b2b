"""The demo: its page, and the endpoint behind it, served on a loopback port and called as a client would."""

import os
import signal
import time
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import processes
import pytest
import pyvips
import torch
from conftest import free_port
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from colorization.color import colorfulness
from colorization.image_io import read_image, read_settings

ROOT = Path(app.__file__).parent


@pytest.fixture(scope="module")
def client(demo_url, tmp_path_factory) -> Client:
    return Client(demo_url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


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


def test_endpoints_name_their_parameters_and_the_models_defaults(client, embedded):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(endpoints) == ["/colorize", "/colorize_batch"]
    config = embedded.config
    shared = {
        "prompt": "",
        "negative_prompt": config.default_negative_prompt,
        "steps": config.default_num_inference_steps,
        "guidance_scale": config.default_guidance_scale,
        "color_scale": config.default_color_scale,
        "seed": config.default_seed,
        "file_format": "PNG",
        "model": "embedded",
        "auto_color_scale": False,
        "auto_prompt": True,
    }
    for name, first, own in (("/colorize", "image", {"variants": 1, "hints": ""}), ("/colorize_batch", "files", {})):
        needed, *others = endpoints[name]["parameters"]
        assert needed["parameter_name"] == first and not needed["parameter_has_default"]
        assert {other["parameter_name"]: other["parameter_default"] for other in others} == shared | own
        assert all(other["python_type"]["description"] or other["python_type"]["type"] for other in others)


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
    _, download = colorize(client, example_files[1], seed=7, hints="30,20,#2060e0", **asked)
    written = read_settings(download)
    assert written["hints"] == [[30, 20, "#2060e0"]]
    asked["num_inference_steps"] = asked.pop("steps")
    assert {name: written[name] for name in [*asked, "seed"]} == asked | {"seed": 7}


def test_no_steps_are_the_first_guess(client, example_files):
    (before, after), download = colorize(client, example_files[0], steps=0)
    assert read_settings(download)["num_inference_steps"] == 0
    assert Path(before).read_bytes() != Path(after).read_bytes()


def test_what_is_in_the_file_survives(client, ramp, tmp_path):
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


def test_very_large_pictures_are_shown_smaller(client, tmp_path):
    path = gray_file(tmp_path / "wide.png", np.tile(np.arange(250, dtype=np.uint8), (40, 20)))
    (before, after), download = colorize(client, path, steps=1)
    for preview in (before, after):
        with Image.open(preview) as picture:
            assert picture.size == (4096, 33)
    assert read_image(download).size == (5000, 40)


def test_bad_input_gives_one_line(client, demo_cache, example_files, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a picture\n")
    renamed = tmp_path / "<b>fake.jpg"
    renamed.write_text("not a picture\n")
    cases = [
        (lambda: colorize(client, text), "notes.txt: not an image"),
        (lambda: colorize(client, renamed), "fake.jpg: not an image"),
        (lambda: client.predict(None, api_name="/colorize"), "Choose a photograph first."),
        (lambda: colorize(client, example_files[0], steps=-1), "less than minimum"),
        (lambda: colorize(client, example_files[0], steps=101), "greater than maximum"),
        (lambda: colorize(client, example_files[0], variants=5), "greater than maximum"),
        (lambda: colorize(client, example_files[0], model="another"), "not in the list of choices"),
        (lambda: colorize(client, example_files[0], file_format="EXE"), "not in the list of choices"),
        (lambda: colorize(client, example_files[0], color_scale=-1), "less than minimum"),
        (lambda: colorize(client, example_files[0], seed=-1), "less than minimum"),
    ]
    for call, message in cases:
        with pytest.raises(AppError, match=message) as caught:
            call()
        shown = str(caught.value)
        assert "\n" not in shown and "<b>" not in shown and str(demo_cache) not in shown


@pytest.mark.parametrize("name", ["steps", "guidance_scale", "color_scale", "variants", "model", "hints"])
def test_nulls_are_refused_by_name(client, example_files, name):
    with pytest.raises(AppError, match=f"`{name}` must not be null"):
        colorize(client, example_files[0], **{name: None})


def test_too_many_pixels_are_refused(client, tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (10_001, 10_000)).save(path)
    with pytest.raises(AppError, match="huge.png.*pixels exceed the limit of 100,000,000$"):
        colorize(client, path)


def test_links_are_not_opened(client):
    with pytest.raises(AppError, match="Links are not opened"):
        client.predict(
            {"path": "http://127.0.0.1:1/a.png", "meta": {"_type": "gradio.FileData"}}, api_name="/colorize"
        )


def test_files_of_the_server_cannot_be_read(client):
    secret = ROOT / "pyproject.toml"
    for path in (str(secret), f"{ROOT}/examples/../pyproject.toml", "/etc/hostname"):
        with pytest.raises(AppError):
            client.predict({"path": path, "meta": {"_type": "gradio.FileData"}}, api_name="/colorize")
        answer = httpx.get(f"{client.src}gradio_api/file={path}")
        assert answer.status_code in (403, 404)


@pytest.mark.parametrize("name", ["COLORIZER_MODEL", "COLORIZER_ADAPTER"])
def test_a_model_that_cannot_be_loaded_is_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("COLORIZER_MODEL", raising=False)
    monkeypatch.delenv("COLORIZER_ADAPTER", raising=False)
    monkeypatch.setenv(name, str(tmp_path / "nothing-here"))
    assert app.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "nothing-here" in error


def test_another_model_and_its_adapter_are_served(stock_sd_folder, adapter_folder, example_files, tmp_path):
    """The command itself, with a Stable Diffusion model and an adapter named by the environment."""
    port = free_port()
    environment = os.environ | {
        "COLORIZER_MODEL": str(stock_sd_folder),
        "COLORIZER_ADAPTER": str(adapter_folder),
        "GRADIO_SERVER_PORT": str(port),
    }
    server = processes.start(ROOT / "app.py", env=environment)
    try:
        client = wait_for_client(f"http://127.0.0.1:{port}", server, tmp_path)
        _, download = colorize(client, example_files[0], steps=2)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
    settings = read_settings(download)
    assert (settings["model"], settings["adapter"]) == ("tiny-stable-diffusion", "tiny-adapter")
    assert read_image(download).size == read_image(example_files[0]).size


def wait_for_client(url: str, server: processes.Process, downloads: Path) -> Client:
    for _ in range(120):
        assert server.poll() is None, f"the server stopped with status {server.returncode}"
        try:
            return Client(url, verbose=False, download_files=downloads)
        except (OSError, ValueError, httpx.HTTPError):
            time.sleep(0.5)
    raise TimeoutError(url)


def test_nobody_gets_past_the_queue(client):
    answer = httpx.post(f"{client.src}gradio_api/run/colorize", json={"data": []})
    assert answer.status_code in (401, 403, 404)
