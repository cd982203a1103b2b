"""The demo's parts: visits, the engine, the Python box, captions, figures, options."""

import base64
import platform
import sys
import tempfile
import threading
import time
import warnings
from functools import partial
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import psutil
import pytest
from conftest import free_port, naming_pipeline, tiny_pipeline
from gradio.data_classes import ImageData
from gradio_client import Client, handle_file
from PIL import Image
from test_captioning import blip_folder  # noqa: F401 (a fixture)

import app
from colorization.errors import ColorizationWarning
from colorization.image_io import read_image, read_settings
from colorization.photo import RAISE_LIMIT, ImageError, Photo
from colorization.prediction import ChromaPrediction
from demo import captions, inputs, messages, rendering, visits
from demo.batch_tab import BatchHandler
from demo.coloring import Color
from demo.compare_tab import Compare, figure
from demo.engine import PLACES, Canceled, Engine
from demo.gpu import gpu_seconds, on_gpu
from demo.hint_panel import add_line, place_hint
from demo.inputs import PhotoInput
from demo.messages import on_page, problems_on_page
from demo.page import launch_options
from demo.prompt_box import seen_values
from demo.rendering import shrink
from demo.settings import Settings
from demo.snippet import python_code
from demo.steps_tab import Walk
from demo.visits import Visits


def request(session: str = "session") -> gr.Request:
    return gr.Request(session_hash=session)


def sample_as(engine: Engine, visitor: str, photo: Photo, **settings) -> list[ChromaPrediction]:
    """One request of one call."""
    with engine.request(visitor) as mine:
        return engine.sample(mine, "embedded", photo, **settings)


@pytest.fixture
def color(embedded, demo_cache) -> Color:
    return Color(Engine({"embedded": embedded}), Visits())


DEFAULTS = {"negative_prompt": "", "steps": 2, "guidance_scale": 1.0, "color_scale": 1.0, "seed": 0}
DEFAULTS |= {"variants": 1, "file_format": "PNG", "model": "embedded", "hints": "", "auto_color_scale": False}
DEFAULTS |= {"auto_prompt": True}


def test_the_same_file_comes_out_of_the_python_box(color, example_files, tmp_path, monkeypatch):
    settings = DEFAULTS | {"guidance_scale": 2.0, "color_scale": 1.4, "seed": 3, "negative_prompt": "blue"}
    settings |= {"hints": "40,30,#2060e0\n\n90,60,#D0A020\n"}
    _, download = color.colorize(str(example_files[0]), "red 'crab'", request=request(), **settings)
    _, _, code, _ = color.present(1.4, "PNG", request())
    (tmp_path / example_files[0].name).write_bytes(example_files[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    again = tmp_path / Path(download).name
    assert read_settings(again) == read_settings(download)
    assert read_settings(again)["hints"] == [[40, 30, "#2060e0"], [90, 60, "#d0a020"]]
    first, second = (np.asarray(Image.open(path), int) for path in (download, again))
    assert (np.abs(first - second) > 1).sum() == 0


def test_the_python_box_names_models_adapters_and_revisions():
    settings = {
        "prompt": "",
        "negative_prompt": "",
        "num_inference_steps": 1,
        "guidance_scale": 1.0,
        "sampler": "cold",
    }
    settings |= {"seed": 0, "color_scale": 1.0}
    settings |= {"model": "user/sd", "model_revision": "abc", "adapter": "user/lora", "adapter_revision": "def"}
    code = python_code(settings, "a.jpg", "JPEG")
    assert "load_pipeline(model='user/sd', revision='abc', adapter='user/lora', adapter_revision='def')" in code
    compile(code, "snippet", "exec")


def test_color_scale_of_models_that_scale_latents_is_rendered_too(example_files, demo_cache):
    """The preview needs no sampling whatever the model's own way of scaling is."""
    color = Color(Engine({"tiny": tiny_pipeline(color_scale_space="latent")}), Visits())
    settings = DEFAULTS | {"model": "tiny", "color_scale": 0.0}
    (before, after), download = color.colorize(str(example_files[0]), "", request=request(), **settings)
    assert np.ptp(np.asarray(Image.open(download)).astype(int), axis=2).max() <= 1
    settings = read_settings(download)
    assert (settings["color_scale"], settings["color_scale_space"]) == (0.0, "chroma")
    (_, again), _ = color.rescale(2.0, request())
    assert np.ptp(np.asarray(Image.open(again)).astype(int), axis=2).max() > 1


def test_lists_of_hints_that_make_no_sense_are_refused_in_words(color, example_files):
    for hints, message in (
        ("10,10,#ff0000\n10,10", "color hints, line 2: must be x,y,#rrggbb"),
        ("1,2,red", "color hints, line 1: the color of a hint must be"),
        ("a.jpg,1,2,#ff0000", "color hints: must be x,y,#rrggbb without a file's name, got 'a.jpg'"),
        ("1,99999,#ff0000", "must lie inside the photograph"),
    ):
        with pytest.raises(gr.Error, match=message):
            color.colorize(str(example_files[0]), "", request=request(), **DEFAULTS | {"hints": hints, "steps": 1})


def test_a_click_counts_in_pixels_of_the_photograph(color, example_files, tmp_path, monkeypatch):
    """Of a scan, which the page shows as a smaller picture of another kind."""
    monkeypatch.setattr(rendering, "PREVIEW_SIDE", 100)
    with Image.open(example_files[0]) as picture:
        picture.convert("L").resize((400, 200)).save(tmp_path / "scan.tif")
    shown = color.show_input(str(tmp_path / "scan.tif"), request())[0]
    event = gr.SelectData(None, {"index": [50, 10], "value": None})
    text = place_hint(color._visits, shown, "rgb(32, 96, 224)", "1,2,#ff0000\n", event, request())
    assert text == "1,2,#ff0000\n202,42,#2060e0"
    text = place_hint(color._visits, str(example_files[0]), "#2060E0", "", event, request())
    assert text == "50,10,#2060e0"


def test_the_automatic_color_scale_is_shown_recorded_and_overruled(color, example_files, tmp_path, monkeypatch):
    settings = DEFAULTS | {"auto_color_scale": True, "color_scale": 0.0}
    _, download = color.colorize(str(example_files[0]), "", request=request(), **settings)
    *_, code, scale = color.present(0.0, "PNG", request())
    written = read_settings(download)
    assert written["color_scale"] == written["automatic_color_scale"] == scale > 0
    (tmp_path / example_files[0].name).write_bytes(example_files[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert read_settings(tmp_path / Path(download).name) == written
    button, code = color.save(0.9 * scale, "PNG", request())
    written = read_settings(button.value["path"])
    assert written["color_scale"] == 0.9 * scale and "automatic_color_scale" not in written and "auto" not in code


def test_every_variant_is_shown_at_the_color_scale_chosen_for_it(color, example_files):
    settings = DEFAULTS | {"auto_color_scale": True, "variants": 2}
    color.colorize(str(example_files[4]), "", request=request(), **settings)
    gallery, _, _, shown = color.present(0.0, "PNG", request())
    written = [read_settings(picture["image"]["path"]) for picture in gallery.value]
    scales = [settings["color_scale"] for settings in written]
    assert scales == [settings["automatic_color_scale"] for settings in written]
    assert len(set(scales)) == 2 and shown == scales[0]
    (_, after), _, taken = color.choose(gr.SelectData(None, {"index": 1, "value": None}), shown, request())
    assert taken == scales[1] == read_settings(after)["color_scale"]


def test_models_that_choose_no_color_scale_offer_none(demo_cache, example_files):
    engine = Engine({"tiny": tiny_pipeline()})
    assert not engine.chooses_color_scale("tiny")
    settings = DEFAULTS | {"model": "tiny", "auto_color_scale": True}
    with pytest.raises(gr.Error, match='`color_scale` "auto" needs a model with'):
        Color(engine, Visits()).colorize(str(example_files[0]), "", request=request(), **settings)


@pytest.fixture
def naming(demo_cache) -> Color:
    """Of a model that takes everything for a macaw."""
    return Color(Engine({"embedded": naming_pipeline(prompt_vocabulary={"colors": "red blue"})}), Visits())


def test_what_is_seen_is_shown_and_every_word_is_a_click(naming, example_files, tmp_path, monkeypatch):
    _, download = naming.colorize(str(example_files[0]), "", request=request(), **DEFAULTS)
    sentence, *words, prompts, notes = naming.tell(request())
    assert sentence.value == "I see a macaw:" and sentence.visible
    assert [word.value for word in words if word.visible] == ["red", "blue", "yellow"]
    assert prompts == {color: f"{color} macaw" for color in ("red", "blue", "yellow")}
    assert notes.value == "colored as “red macaw”" and notes.visible
    # The Python box makes the same file, which tells it too.
    *_, code, _ = naming.present(1.0, "PNG", request())
    assert "prompt=''" in code and "auto_prompt" not in code
    assert read_settings(download)["encoded_prompt"] == "red macaw"


def test_what_was_seen_stays_while_its_words_are_tried(naming, example_files):
    naming.colorize(str(example_files[0]), "crimson macaw", request=request(), **DEFAULTS)
    *others, notes = naming.tell(request())
    assert all(value == gr.skip() for value in others)
    assert notes.value == "“crimson” is read as “red”"


def test_nothing_is_seen_without_result_or_against_the_visitors_will(naming, example_files):
    for count, settings in enumerate([None, DEFAULTS | {"auto_prompt": False}]):
        if count:
            naming.colorize(str(example_files[0]), "", request=request(), **settings)
        *shown, prompts, notes = naming.tell(request())
        assert prompts == {} and not notes.visible and not any(one.visible for one in shown)
    *_, code, _ = naming.present(1.0, "PNG", request())
    assert "auto_prompt=False" in code


def test_a_thing_that_has_no_color_of_its_own_is_said_with_its_background():
    seen = {"name": "parachute", "colors": [], "background": "blue", "probability": 0.9}
    sentence, word, *_, prompts, notes = seen_values({"prompt": "", "seen": seen})
    assert (sentence.value, word.value) == ("I see a parachute:", "blue background")
    assert prompts == {"blue background": "parachute, blue background"} and not notes.visible


def test_the_page_offers_what_the_model_can(demo_cache):
    able, unable = Engine({"one": naming_pipeline()}), Engine({"one": tiny_pipeline()})
    assert able.names("one") and not unable.names("one")
    assert (able.fewest_steps("one"), unable.fewest_steps("one")) == (0, 1)


def test_rendering_without_a_result_changes_nothing(color):
    for answer in (color.rescale(1.0, request()), color.save(1.0, "PNG", request())):
        assert all(value == gr.skip() for value in answer)


def test_a_late_preview_of_the_input_does_not_replace_the_result(color, example_files):
    path = str(example_files[0])
    color.colorize(path, "", request=request(), **DEFAULTS)
    assert all(value == gr.skip() for value in color.show_input(path, request()))
    assert color.show_input(None, request())[1] is None


def test_warnings_of_the_library_reach_the_user(color, example_files):
    """Outside a request gradio turns what it would show into a Python warning."""
    with pytest.warns(UserWarning) as caught:
        color.colorize(
            str(example_files[0]), "a red bus " * 200, request=request(), **DEFAULTS | {"negative_prompt": "x"}
        )
    shown = [str(warning.message) for warning in caught]
    assert any("`negative_prompt` has no effect" in message for message in shown)
    assert any(message.startswith("the prompt is longer") and len(message) <= 300 for message in shown)


def test_other_warnings_are_not_shown():
    with pytest.warns(RuntimeWarning, match="for developers"):
        with problems_on_page("photo.jpg"):
            warnings.warn("for developers", RuntimeWarning, stacklevel=1)


def test_warnings_reach_the_user_who_caused_them_though_handlers_run_side_by_side():
    shown, inside, left = {}, threading.Barrier(2), threading.Event()

    def handler(name: str) -> None:
        with problems_on_page():
            inside.wait(10)
            if name == "late":
                left.wait(10)
            warnings.warn(f"for {name}", ColorizationWarning, stacklevel=1)
            shown[name] = list(messages._heard.messages)
        left.set()

    hook = None
    for _ in range(3):
        inside.reset()
        left.clear()
        with warnings.catch_warnings(record=True):
            threads = [threading.Thread(target=handler, args=[name]) for name in ("early", "late")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            hook = warnings.showwarning
        assert {name: [str(one) for one in ones] for name, ones in shown.items()} == {
            "early": ["for early"],
            "late": ["for late"],
        }
    assert hook.keeps_messages


def test_more_requests_than_places_are_told_that_the_server_is_busy(embedded, example_files):
    """Canceled requests leave the page's queue at once, but their threads still hold a photograph each."""
    engine, photo = Engine({"embedded": embedded}), read_image(example_files[0])
    sample = partial(sample_as, engine, "visitor", photo, num_inference_steps=1)
    with engine._turn:
        threads = [threading.Thread(target=sample) for _ in range(PLACES)]
        for thread in threads:
            thread.start()
        while engine._places._value > 0:
            time.sleep(0.01)
        with pytest.raises(gr.Error, match="busy"):
            sample()
    for thread in threads:
        thread.join(60)
    assert len(sample()) == 1


def test_nothing_is_written_for_a_visit_that_is_over(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    visits = Visits()
    visit = visits.of(request())
    assert Path(visit.new_file("preview", "a.png")).parent.is_dir()
    visits.end(request())
    with pytest.raises(Canceled):
        visit.new_file("preview", "b.png")
    assert not list(tmp_path.iterdir())


def test_messages_name_the_file_but_not_its_folder():
    assert on_page(ImageError(f"/srv/x/<b>.jpg: too large; {RAISE_LIMIT}"), "/srv/x/<b>.jpg") == (
        "&lt;b&gt;.jpg: too large"
    )
    folder = tempfile.gettempdir()
    assert on_page(f"{folder}/gradio/visit-12/ab/a b.jpg: not like {folder}/c.png") == "a b.jpg: not like c.png"


def test_a_refusal_of_the_page_is_told_as_it_is():
    with pytest.raises(gr.Error) as caught, problems_on_page():
        raise gr.Error("More than 100 files.", print_exception=False)
    assert caught.value.message == "More than 100 files." and not caught.value.print_exception


def test_an_error_that_nobody_foresaw_is_told_as_such():
    with pytest.raises(gr.Error, match="unexpected KeyError: 'x'") as caught, problems_on_page():
        raise KeyError("x")
    assert caught.value.print_exception  # in the server's log


@pytest.mark.parametrize("name", ["prompt", "steps", "color_scale", "hints", "model", "file_format", "variants"])
def test_nulls_are_refused_by_name(color, example_files, name):
    with pytest.raises(gr.Error, match=f"`{name}` must not be null"):
        color.colorize(str(example_files[0]), request=request(), **{"prompt": ""} | DEFAULTS | {name: None})


@pytest.mark.parametrize("port", ["abc", "", "0", "65536", "-1", "\u0667"])
def test_what_is_no_port_is_refused(port, capsys, monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    assert app.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: GRADIO_SERVER_PORT must be a number from 1 to 65535") and error.count("\n") == 1


def test_one_request_at_a_time(embedded, example_files):
    engine, photo, running, most = Engine({"embedded": embedded}), read_image(example_files[0]), [0], [0]

    def enter(*_):
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)
        running[0] -= 1

    handle = embedded.unet.register_forward_pre_hook(enter)
    try:
        threads = [
            threading.Thread(target=sample_as, args=(engine, str(k), photo), kwargs={"num_inference_steps": 2})
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        handle.remove()
    assert most == [1]


def test_cancel_reaches_only_the_visitor_who_asked(embedded, example_files):
    engine, photo = Engine({"embedded": embedded}), read_image(example_files[0])
    handle = embedded.unet.register_forward_hook(lambda *_: engine.cancel("me"))
    try:
        with pytest.raises(Canceled):
            sample_as(engine, "me", photo, num_inference_steps=4)
        assert len(sample_as(engine, "you", photo, num_inference_steps=2)) == 1
    finally:
        handle.remove()
    assert len(sample_as(engine, "me", photo, num_inference_steps=1)) == 1


def test_cancel_is_not_forgotten_while_a_request_waits_or_is_between_two_parts(embedded, example_files, color):
    engine, photo = color._engine, read_image(example_files[0])
    with engine.request("me") as mine, engine.request("you") as yours:
        assert engine.sample(mine, "embedded", photo, num_inference_steps=1)
        engine.cancel("me")
        with pytest.raises(Canceled):
            engine.sample(mine, "embedded", photo, num_inference_steps=1)
        assert engine.sample(yours, "embedded", photo, num_inference_steps=1)
    handler, errors = BatchHandler(engine, color._visits), []

    def batch() -> None:
        try:
            settings = {key: DEFAULTS[key] for key in DEFAULTS if key not in ("variants", "hints")}
            handler.colorize_batch([str(example_files[0])], "", request=request(), **settings)
        except gr.Error as error:
            errors.append(str(error))

    with engine._turn:
        thread = threading.Thread(target=batch)
        thread.start()
        while not engine._requests:
            time.sleep(0.01)
        color.cancel(request())
    thread.join(60)
    assert errors == ["'Canceled.'"] and not engine._requests


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do not say what they keep")
def test_what_a_request_has_freed_goes_back_to_the_system(embedded, example_files):
    """Also the holes between what is still in use, and those in the heaps of other threads."""
    engine, photo, kept = Engine({"embedded": embedded}), read_image(example_files[0]), []
    process = psutil.Process()

    def leave_holes() -> None:
        blocks = [np.ones(100_000, np.uint8) for _ in range(1000)]  # a hundred megabytes, too small for maps
        kept.extend(blocks[::50])

    sample_as(engine, "me", photo, num_inference_steps=1)
    threads = [threading.Thread(target=leave_holes) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = process.memory_info().rss
    sample_as(engine, "me", photo, num_inference_steps=1)
    assert process.memory_info().rss < before - 120e6


def test_the_walk_begins_gray_and_ends_with_the_result(embedded, example_files):
    engine, photo = Engine({"embedded": embedded}), read_image(example_files[0])
    settings = {"num_inference_steps": 3, "seed": 1}
    with engine.request("me") as mine:
        walk = engine.trace(mine, "embedded", photo, **settings)
        (result,) = engine.sample(mine, "embedded", photo, **settings)
    assert len(walk) == 4
    assert not walk[0].chroma.any()
    assert (walk[-1].chroma - result.chroma).abs().max() < 1e-5


def test_a_walk_without_steps_is_the_first_guess(embedded, example_files):
    engine, photo = Engine({"embedded": embedded}), read_image(example_files[0])
    with engine.request("me") as mine:
        start, guess = engine.trace(mine, "embedded", photo, num_inference_steps=0)
    assert not start.chroma.any() and guess.chroma.any()


def test_the_walk_shows_what_color_hints_do(color, example_files):
    handler, settings = Walk(color._engine, color._visits, "unused"), Settings("", "embedded", 2, 1.0, 0, 1.0, False)

    def walk(hints: str) -> list[np.ndarray]:
        gallery = handler.walk(str(example_files[0]), "", hints, settings, request())
        return [np.asarray(Image.open(picture["image"]["path"]), int) for picture in gallery.value]

    (gray, *plain), (start, *hinted) = walk(""), walk("90,75,#2060e0")
    assert (gray == start).all()
    for without, picture in zip(plain, hinted, strict=True):
        red, _, blue = picture[50, 60]
        assert blue - red > 40 > np.ptp(without[50, 60])


def test_gpus_are_borrowed_where_spaces_is_installed(tmp_path, monkeypatch):
    (tmp_path / "spaces.py").write_text(
        "def GPU(duration):\n    return lambda function: lambda *values: (duration(*values), function(*values))\n"
    )
    assert on_gpu(len, lambda text: 1) is len
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert on_gpu(len, lambda text: gpu_seconds(1, len(text)))("four") == (gpu_seconds(1, 4), 4)
    finally:
        sys.modules.pop("spaces", None)
    assert gpu_seconds(100, 100) <= 120


def test_visits_are_bounded_and_leave_nothing(demo_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(visits, "VISITS_AT_MOST", 3)
    kept, shared = Visits(), tmp_path / "sha" / "shared.jpg"
    shared.parent.mkdir()
    shared.write_bytes(b"x")
    files = []
    for session in "abcd":
        file = Path(kept.of(request(session), [str(shared)]).new_file("download", "file.png"))
        file.write_bytes(b"x")
        files.append(file)
    assert [file.exists() for file in files] == [False, True, True, True]
    for session in "bc":
        kept.end(request(session))
    assert shared.exists()
    kept.end(request("d"))
    assert not shared.parent.exists() and not any(file.parent.parent.exists() for file in files)


def test_an_upload_that_is_sent_again_is_not_deleted_with_the_first_visit(demo_url, example_files):
    """Of equal files gradio keeps the one that came last; its sender asks for something only afterwards."""

    def upload() -> Path:
        with open(example_files[5], "rb") as file:
            (path,) = httpx.post(f"{demo_url}gradio_api/upload", files={"files": ("twice.jpg", file)}).json()
        return Path(path)

    kept, shared = Visits(), upload()
    kept.of(request("first"), [str(shared)])
    assert upload() == shared
    kept.end(request("first"))
    assert shared.exists()
    for last in ("second", "third"):
        for session in ("second", "third"):
            upload()
            kept.of(request(session), [str(shared)])
        kept.end(request("third" if last == "second" else "second"))
        assert shared.exists()
        kept.end(request(last))
        assert not shared.parent.exists()
    assert not kept._changed


def test_pictures_of_the_page_cannot_be_deleted_as_uploads(demo_cache):
    thumbnail = demo_cache / "thumbnail" / "image.webp"
    thumbnail.parent.mkdir()
    thumbnail.write_bytes(b"x")
    kept = Visits()
    kept.spare_page_files()
    kept.of(request(), [str(thumbnail)])
    kept.end(request())
    assert thumbnail.exists()


def test_results_in_memory_are_bounded(color, example_files, monkeypatch):
    for session in "ab":
        color.colorize(str(example_files[0]), "", request=request(session), **DEFAULTS | {"steps": 1})
    kept = color._visits
    size = kept.of(request("a")).result.nbytes
    monkeypatch.setattr(visits, "RESULT_BYTES_AT_MOST", 1.5 * size)
    assert kept.of(request("a")).result is not None
    assert kept.of(request("b")).result is None


def test_old_visits_go(demo_cache, monkeypatch):
    kept = Visits()
    file = Path(kept.of(request("a")).new_file("download", "file.png"))
    monkeypatch.setattr(visits, "SECONDS_AT_MOST", 0)
    time.sleep(0.01)
    kept.of(request("b"))
    assert not file.parent.exists()


def test_of_each_kind_the_last_files_are_kept(demo_cache):
    visit = Visits().of(request())
    folders = [Path(visit.new_file("after", "a.jpg")).parent for _ in range(5)]
    assert [folder.exists() for folder in folders] == [False, False, True, True, True]


def test_requests_without_a_session_do_not_share_a_visit(demo_cache):
    kept = Visits()
    assert kept.of(None).folder != kept.of(gr.Request()).folder


def test_caption_button_is_hidden_without_weights(tmp_path, monkeypatch):
    monkeypatch.delenv("COLORIZER_CAPTIONER", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert captions.find_captioner() is None


def test_caption_is_suggested_where_the_weights_are(blip_folder, monkeypatch, example_files):  # noqa: F811
    monkeypatch.setenv("COLORIZER_CAPTIONER", str(blip_folder))
    assert captions.find_captioner() == str(blip_folder)
    assert isinstance(captions.caption(str(blip_folder), read_image(example_files[0])), str)


def test_the_figure_has_a_row_for_each_prediction_and_a_column_for_each_scale(embedded, example_files):
    photo = read_image(example_files[0])
    engine = Engine({"embedded": embedded})
    predictions = sample_as(engine, "me", photo, num_inference_steps=1, num_images_per_prompt=2)
    small = figure(shrink(photo.luma, 200), predictions[:1], ["one"], [1.0])
    large = figure(shrink(photo.luma, 200), predictions, ["one", "two"], [0.5, 1.0, 1.5])
    assert large.width > 1.8 * small.width and large.height > 1.7 * small.height


def test_equal_prompts_samplers_and_color_scales_are_compared_once(color, example_files):
    handler, settings = Compare(color._engine, color._visits), Settings("", "embedded", 1, 1.0, 0, 1.0, False)
    prompts, samplers, scales = "red\n red \n\nblue", ["cold", "cold"], [1.5, 0.5, 1.5]
    gallery, button = handler.compare(str(example_files[0]), prompts, samplers, scales, settings, request())
    assert [one["caption"] for one in gallery.value] == [
        f"{prompt} · color scale {scale}" for prompt in ("red", "blue") for scale in ("0.5", "1.5")
    ]
    with Image.open(button.value["path"]) as sheet:
        assert sheet.width < 4 * 330 and sheet.height < 3 * 360


def test_data_urls_are_files_of_limited_size(demo_cache, monkeypatch):
    content = bytes(range(256)) * 4
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    photo = PhotoInput(render=False)

    def read(url: str) -> bytes:
        return Path(photo.preprocess(ImageData(url=url))).read_bytes()

    monkeypatch.setattr(inputs, "MAX_FILE_BYTES", len(content))
    assert read(url) == content
    files = set(demo_cache.rglob("*"))
    with pytest.raises(gr.Error, match="no valid base64"):
        read(url[:-2] + "?=")
    monkeypatch.setattr(inputs, "MAX_FILE_BYTES", len(content) - 100)
    with pytest.raises(gr.Error, match="larger than"):
        read(url)
    assert set(demo_cache.rglob("*")) == files


def test_thumbnails_of_luma_are_8_bit_and_small():
    luma = np.full((600, 1200), 256 * 77, np.uint16)
    assert shrink(luma, 300).shape == (150, 300) and shrink(luma, 300).dtype == np.uint8
    assert (shrink(luma, 300) == 77).all()


def test_without_mcp_the_page_is_served_without_tools(monkeypatch):
    assert launch_options()["mcp_server"] is True
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert launch_options()["mcp_server"] is False


def test_an_engine_needs_a_model():
    with pytest.raises(ValueError, match="at least one model"):
        Engine({})


def test_several_models_can_be_configured(stock_sd_folder, adapter_folder, monkeypatch, demo_cache):
    monkeypatch.setenv("COLORIZER_MODEL", f"embedded,{stock_sd_folder}")
    monkeypatch.setenv("COLORIZER_ADAPTER", f",{adapter_folder}")
    models = app.load_models()
    assert list(models) == ["embedded", "tiny-stable-diffusion + tiny-adapter"]
    config = app.build_demo(models).get_config_file()
    (choice,) = [part["props"] for part in config["components"] if part["props"].get("label") == "Model"]
    assert choice["visible"] and len(choice["choices"]) == 2


def test_uploads_may_be_named_by_their_link(demo_url, example_files, tmp_path):
    """What agents do: upload first, then call the tool with what they got in return."""
    client = Client(demo_url, verbose=False, download_files=tmp_path)
    uploaded = client.predict(handle_file(example_files[2]), api_name="/colorize", steps=1)
    assert uploaded
    with open(example_files[2], "rb") as file:
        (path,) = httpx.post(f"{client.src}gradio_api/upload", files={"files": ("crab.jpg", file)}).json()
    link = {"path": f"{client.src}gradio_api/file={path}", "meta": {"_type": "gradio.FileData"}}
    _, download = client.predict(link, api_name="/colorize", steps=1)
    assert Path(download).name == "crab-colorized.png"


def test_a_full_queue_says_so(embedded, demo_cache, tmp_path):
    release = threading.Event()

    def wait(*_) -> None:
        release.wait(60)

    busy = embedded.unet.register_forward_pre_hook(wait)
    page = app.build_demo(embedded).queue(max_size=2)
    _, url, _ = page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True)
    try:
        client = Client(url, verbose=False, download_files=tmp_path)
        Image.linear_gradient("L").resize((64, 48)).save(tmp_path / "small.png")
        image = handle_file(tmp_path / "small.png")
        jobs = [client.submit(image, api_name="/colorize", steps=1) for _ in range(6)]
        end = time.monotonic() + 60
        while sum(job.done() for job in jobs) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        release.set()
        errors = [error for job in jobs if (error := job.exception(timeout=60))]
    finally:
        release.set()
        busy.remove()
        page.close(verbose=False)
    assert 2 <= len(errors) <= 4
    assert all("Queue is full" in str(error) for error in errors)


@pytest.mark.parametrize(
    "color", ["#598ec0", "rgb(89, 142, 192)", "rgba(88.58, 142.4, 192.0, 1)", "hsl(209, 45%, 55%)"]
)
def test_a_click_takes_every_form_of_the_color_picker(color):
    line = add_line("1,2,#ff0000\n", (30, 40), color, "photo.jpg", "photo.jpg")
    first, second = line.splitlines()
    assert first == "1,2,#ff0000" and second.startswith("30,40,#")
    channels = [int(second[7 + k : 9 + k], 16) for k in (0, 2, 4)]
    assert np.abs(np.array(channels) - [89, 142, 192]).max() <= 1
