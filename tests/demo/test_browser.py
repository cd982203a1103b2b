"""The page in a real browser: headless Chromium, driven by Playwright."""

import io
import re
import shutil
import time
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import naming_head
from PIL import Image

from colorization.image_io import read_image, read_settings

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
expect = sync_api.expect

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SECONDS = 1000  # Playwright's unit is the millisecond
PATIENCE = 60 * SECONDS  # of what waits for something to appear; a loaded machine is slow
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser):
    """One for all tests, so that the page's scripts are fetched once; each page is a visit of its own anyway."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def open_page(context, demo_url):
    """Opens the demo in a new tab; errors in the page's scripts fail the test."""
    pages, errors = [], []

    def open_page(viewport=DESKTOP, address=""):
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size(viewport)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(demo_url + address)
        page.locator("#colorize").wait_for()
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not errors


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture
def steps_taken(embedded):
    """Counts how often the network runs."""
    calls = []
    handle = embedded.unet.register_forward_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()


def upload(page, path: Path) -> None:
    page.locator("#photograph input[type=file]").set_input_files(str(path))
    page.locator("#pictures img").first.wait_for()


def colorize(page) -> None:
    """For the first result of a page: the button that is waited for stays enabled afterwards."""
    page.locator("#colorize").click()
    expect(page.locator("#download")).to_be_enabled()


def preview(page) -> str:
    """Address of the colored picture in the slider."""
    return page.locator("#pictures img").evaluate_all(
        "pictures => pictures.map(picture => picture.src).filter(address => address.includes('-preview'))[0] || ''"
    )


def picture(address: str) -> Image.Image:
    return Image.open(io.BytesIO(httpx.get(address).content))


def colored(image: Image.Image) -> bool:
    return bool(np.ptp(np.asarray(image.convert("RGB")).astype(int), axis=2).max() > 20)


def download(page, button: str, folder: Path) -> Path:
    with page.expect_download() as started:
        page.locator(button).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def set_slider(page, label: str, value: float) -> None:
    box = page.get_by_label(f"number input for {label}")
    box.fill(str(value))
    box.press("Enter")


def settle(page) -> None:
    """After something was opened for the first time: gradio gives new components their initial values a frame later.

    What was entered before that is lost.
    """
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def open_settings(page) -> None:
    page.get_by_role("button", name="Settings").first.click()  # gradio's own are in the footer
    page.get_by_label("number input for Steps").wait_for()
    settle(page)


def take_one_step(page) -> None:
    """For tests that are not about the result."""
    open_settings(page)
    set_slider(page, "Steps", 1)


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    page.get_by_role("tabpanel").locator("button:visible").first.wait_for()
    settle(page)


def wait_until(condition, seconds: float = PATIENCE / SECONDS):
    """What `condition` returns once it is true."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)
    return result


def test_first_click_needs_nothing_but_the_picture(page, example_files, tmp_path):
    source = read_image(example_files[0])
    upload(page, example_files[0])
    expect(page.locator("#download")).to_be_disabled()
    colorize(page)
    shown = picture(preview(page))
    assert shown.size == source.size and colored(shown)
    path = download(page, "#download", tmp_path)
    assert path.name == f"{example_files[0].stem}-colorized.png"
    result = read_image(path, keep_color=True)
    assert result.size == source.size
    assert np.abs(result.luma.astype(int) - source.luma).max() <= 1
    assert np.ptp(result.rgb.astype(int), axis=2).max() > 20


def test_color_scale_acts_without_sampling_and_is_saved_as_shown(page, example_files, tmp_path, steps_taken):
    upload(page, example_files[9])
    take_one_step(page)
    colorize(page)
    first, taken = preview(page), len(steps_taken)
    set_slider(page, "Color scale", 3)
    second = wait_until(lambda: preview(page) != first and preview(page))
    assert np.abs(np.asarray(picture(first), int) - np.asarray(picture(second), int)).max() > 20
    expect(page.locator("#download")).to_be_enabled()
    page.get_by_role("button", name="Copy as Python").click()
    page.locator("#code").get_by_text("colorized.png").wait_for()
    page.get_by_label("JPEG").check()
    page.locator("#code").get_by_text("colorized.jpg").wait_for()
    path = download(page, "#download", tmp_path)
    assert path.suffix == ".jpg" and read_settings(path)["color_scale"] == 3
    # both are JPEG files, of different quality
    difference = np.abs(np.asarray(Image.open(path), float) - np.asarray(picture(second), float))
    assert difference.mean() < 3
    assert len(steps_taken) == taken


def test_one_of_several_variants_can_be_taken(page, example_files, embedded, tmp_path):
    upload(page, example_files[4])
    open_settings(page)
    set_slider(page, "Variants", 3)
    set_slider(page, "Steps", 2)
    colorize(page)
    thumbnails = page.locator("#variants button.thumbnail-item")
    expect(thumbnails).to_have_count(3)
    page.get_by_role("button", name="Copy as Python").click()
    thumbnails.nth(2).click()
    expect(page.locator("#code")).to_contain_text(f"seed={embedded.config.default_seed + 2}")
    settings = read_settings(download(page, "#download", tmp_path))
    assert settings["seed"] == embedded.config.default_seed + 2
    assert settings["num_inference_steps"] == 2


def test_helpers_wait_until_settings_are_kept(page):
    """On a busy machine frames are late, and gradio's initial values with them."""
    page.evaluate(
        "() => { const next = requestAnimationFrame; window.requestAnimationFrame = f => setTimeout(next, 300, f); }"
    )
    open_settings(page)
    set_slider(page, "Variants", 3)
    page.wait_for_timeout(SECONDS)
    expect(page.get_by_label("number input for Variants")).to_have_value("3")


def test_the_automatic_color_scale_moves_the_slider(page, example_files, tmp_path):
    upload(page, example_files[4])
    take_one_step(page)
    page.get_by_label("Automatic color scale").check()
    scale = page.get_by_label("number input for Color scale")
    before = scale.input_value()
    colorize(page)
    expect(scale).not_to_have_value(before)
    page.wait_for_timeout(SECONDS)  # in which a rendering at another scale would begin
    expect(page.locator("#download")).to_be_enabled()
    settings = read_settings(download(page, "#download", tmp_path))
    assert settings["color_scale"] == settings["automatic_color_scale"] == float(scale.input_value())


def disc_on_page(page, path: Path, size: tuple[int, int], center: tuple[int, int]) -> dict:
    """Upload a picture of a light disc; where the page shows its center, for a click on the photograph."""
    width, height = size
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    inside = np.hypot(columns - center[0], rows - center[1]) < width / 6
    Image.fromarray(np.where(inside, 200, 90).astype(np.uint8)).save(path)
    upload(page, path)
    shown = page.locator("#photograph img")
    wait_until(lambda: shown.count() and shown.evaluate("picture => picture.naturalWidth"))
    page.wait_for_timeout(SECONDS)  # until nothing moves
    pixels = np.asarray(Image.open(io.BytesIO(shown.screenshot())).convert("L"), int)
    rows, columns = np.nonzero(np.abs(pixels - 200) <= 3)
    return {"x": float(np.median(columns)), "y": float(np.median(rows))}


def test_a_click_on_the_photograph_gives_the_place_its_color(page, tmp_path):
    place = disc_on_page(page, tmp_path / "disc.png", (900, 450), (610, 160))
    take_one_step(page)
    page.get_by_role("button", name="Color hints").click()
    hints = page.locator("#hints textarea")
    hints.wait_for()
    settle(page)
    page.locator("#hint-color .dialog-button").click()
    code = page.locator("#hint-color input[type=text]")
    code.fill("#2060e0")
    code.press("Enter")
    page.locator("#photograph img").click(position=place)
    expect(hints).to_have_value(re.compile(r"^6\d\d,1\d\d,#2060e0$"))
    column, row, _ = hints.input_value().split(",")
    assert abs(int(column) - 610) <= 3 and abs(int(row) - 160) <= 3
    expect(page.locator("#swatches")).to_have_text(f"{column}, {row}")
    colorize(page)
    result = download(page, "#download", tmp_path)
    pixels = np.asarray(Image.open(result), int)
    red, green, blue = pixels[160, 610]
    assert blue > green > red and blue - red > 50
    assert np.ptp(pixels[400, 50]) < np.ptp(pixels[160, 610])
    assert read_settings(result)["hints"] == [[int(column), int(row), "#2060e0"]]
    page.get_by_role("button", name="Copy as Python").click()
    expect(page.locator("#code")).to_contain_text(f"hints=[[{column}, {row}, '#2060e0']]")


def test_hints_are_removed_one_by_one_all_at_once_and_with_the_photograph(page, example_files, tmp_path):
    """On a picture that is shown smaller than the space for it."""
    place = disc_on_page(page, tmp_path / "small.png", (100, 60), (70, 25))
    photograph, hints = page.locator("#photograph img"), page.locator("#hints textarea")
    lines = []
    for shift in (0, 4, -4):
        photograph.click(position={"x": place["x"] + shift, "y": place["y"]})
        lines.append(f"{70 + shift},25,#c03030")
        expect(hints).to_have_value("\n".join(lines))
    page.get_by_role("button", name="Remove last").click()
    expect(hints).to_have_value("\n".join(lines[:2]))
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(hints).to_have_value("")
    photograph.click(position=place)
    expect(hints).to_have_value(lines[0])
    page.locator("#examples button").first.click()
    expect(hints).to_have_value("")


def test_cancel_stops_the_sampling(page, example_files, embedded, steps_taken):
    # The model is so quick that on a busy machine all is over before the click arrives.
    slowed = embedded.unet.register_forward_pre_hook(lambda *_: time.sleep(0.1))
    upload(page, example_files[0])
    open_settings(page)
    set_slider(page, "Steps", 100)
    page.locator("#colorize").click()
    wait_until(lambda: len(steps_taken) > 2)
    page.get_by_role("button", name="Cancel").first.click()

    def stopped() -> bool:
        taken = len(steps_taken)
        time.sleep(1)
        return len(steps_taken) == taken

    wait_until(stopped)
    slowed.remove()
    assert len(steps_taken) < 100
    set_slider(page, "Steps", 1)
    colorize(page)
    assert colored(picture(preview(page)))


def test_batch_gives_an_archive_and_names_bad_files(page, example_files, tmp_path):
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as archive:
        for path in example_files[:2]:
            archive.write(path, f"holiday/{path.name}")
        archive.writestr("holiday/notes.txt", "not a picture")
    take_one_step(page)
    open_tab(page, "Batch")
    page.locator("#files input[type=file]").set_input_files([str(tmp_path / "album.zip"), str(example_files[2])])
    page.locator("#files").get_by_text("album").wait_for()
    page.get_by_role("button", name="Colorize all").click()
    report = page.locator("#report textarea")
    expect(report).to_have_value(
        "3 colored, 1 failed\nholiday/notes.txt: not an image of a known kind "
        "(jpg, png, webp, gif, tiff, avif, bmp, ppm)"
    )
    path = download(page, "#archive a", tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted(
            [f"holiday/{file.stem}-colorized.png" for file in example_files[:2]]
            + [f"{example_files[2].stem}-colorized.png"]
        )


def test_a_text_file_is_refused_in_words(page, tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture\n")
    page.locator("#photograph input[type=file]").set_input_files(str(path))
    expect(page.get_by_text("notes.jpg: not an image of a known kind").first).to_be_visible()


def test_scans_are_shown_although_browsers_know_no_tiff(page, example_files, tmp_path):
    path = tmp_path / "scan.tif"
    Image.open(example_files[3]).convert("L").save(path)
    upload(page, path)
    take_one_step(page)
    shown = page.locator("#photograph img")
    wait_until(lambda: shown.count() and shown.evaluate("picture => picture.naturalWidth"))
    colorize(page)
    assert download(page, "#download", tmp_path).name == "scan-colorized.png"


def test_clicks_fill_in_prompt_photograph_and_seed(page):
    prompt = page.get_by_label("Prompt", exact=True)
    page.get_by_role("button", name="red dress").click()
    page.get_by_role("button", name="blue sky").click()
    expect(prompt).to_have_value("red dress, blue sky")
    page.locator("#examples button").first.click()
    page.locator("#pictures img").first.wait_for()
    open_settings(page)
    seed = page.get_by_label("Seed")
    before = seed.input_value()
    page.get_by_role("button", name="Dice").click()
    expect(seed).not_to_have_value(before)


def test_what_is_seen_is_said_and_every_word_sets_the_prompt(page, example_files, embedded):
    shipped = embedded.naming_head
    embedded.register_modules(naming_head=naming_head(embedded))
    try:
        upload(page, example_files[0])
        colorize(page)
        seen, prompt = page.locator("#seen"), page.get_by_label("Prompt", exact=True)
        expect(seen).to_contain_text("I see a macaw:")
        expect(page.locator("#notes")).to_contain_text("colored as “red macaw”")
        for color in ("blue", "yellow"):
            seen.get_by_role("button", name=color).click()
            expect(prompt).to_have_value(f"{color} macaw")
        page.locator("#colorize").click()
        expect(page.locator("#notes")).not_to_contain_text("colored as")
        expect(seen).to_contain_text("I see a macaw:")  # to try another of its colors
        page.locator("#photograph input[type=file]").set_input_files(str(example_files[1]))
        expect(seen.get_by_role("button", name="blue")).to_be_hidden()
    finally:
        embedded.register_modules(naming_head=shipped)


def test_comparison_and_steps_are_shown(page, example_files):
    upload(page, example_files[1])
    take_one_step(page)
    open_tab(page, "Compare")
    page.locator("#compared img").wait_for()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#comparison button.thumbnail-item")).to_have_count(9)
    open_tab(page, "Color")
    set_slider(page, "Steps", 4)
    open_tab(page, "How it works")
    page.get_by_role("button", name="Show the steps").click()
    expect(page.locator("#strip button.thumbnail-item")).to_have_count(5)


def test_keyboard_alone_is_enough(page, example_files):
    upload(page, example_files[0])
    take_one_step(page)
    page.get_by_label("Prompt", exact=True).focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "colorize":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#download")).to_be_enabled(timeout=30 * SECONDS)


def test_nothing_is_kept_of_a_visit(open_page, example_files, demo_cache):
    page = open_page()
    upload(page, example_files[8])
    take_one_step(page)
    colorize(page)
    assert list(demo_cache.rglob(f"{example_files[8].stem}*"))
    page.close()
    wait_until(lambda: not list(demo_cache.rglob(f"{example_files[8].stem}*")))


@pytest.mark.parametrize(
    ("name", "viewport", "address"),
    [("desktop", DESKTOP, ""), ("phone", PHONE, ""), ("dark", DESKTOP, "?__theme=dark")],
)
def test_screenshots(open_page, example_files, request, tmp_path, name, viewport, address):
    """Nothing sticks out at the side; the pictures are those of docs/use.md where --screenshots says so."""
    page = open_page(viewport, address)
    upload(page, next(path for path in example_files if "macaw" in path.name))
    page.get_by_label("Prompt", exact=True).fill("red macaw")
    colorize(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.evaluate("document.body.classList.contains('dark')") == (name == "dark")
    page.wait_for_timeout(SECONDS)  # until nothing moves
    path = Path(request.config.getoption("--screenshots") or tmp_path, f"demo-{name}.png")
    page.screenshot(path=path, full_page=True)
    with Image.open(path) as shot:
        small = shot.convert("RGB").quantize(200, dither=Image.Dither.FLOYDSTEINBERG)
    small.save(path, optimize=True)
    assert path.stat().st_size < 250_000
