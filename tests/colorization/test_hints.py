"""Color hints: how they spread, what they do to a picture, and how they are given."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import random_photo, tiny_pipeline
from PIL import Image
from studying import kept, study

from colorization.cli import main
from colorization.color import merge_luma_chroma, rgb_to_lab
from colorization.hint_spread import REACH, affinity, hint_region, propagate_hints
from colorization.hints import Hint, check_inside, hints_per_image, parse_hints, read_hints
from colorization.image_io import read_settings
from eval.metrics.pixels import ciede2000
from eval.studies.hints import STUDY, summarize
from eval.studies.sheets import LINE, MARGIN, colored_strip, draw_sheet

BLUE, RED = (0.4, -0.1), (-0.1, 0.4)  # Cb, Cr


def spread(luma: np.ndarray, points: list[tuple[int, int]], chroma: list, **options) -> np.ndarray:
    rows, columns = np.array(points).T
    return propagate_hints(luma, rows, columns, np.array(chroma), **options)


def textured(height: int = 24, width: int = 32) -> np.ndarray:
    return np.array(random_photo(width, height, seed=4)) / 255


class TestPropagation:
    def test_a_hint_keeps_its_color_and_one_color_is_everywhere(self):
        chroma = spread(textured(), [(3, 4)], [BLUE])
        np.testing.assert_allclose(chroma, np.broadcast_to(np.array(BLUE)[:, None, None], (2, 24, 32)), atol=1e-9)

    def test_hints_are_exact_and_all_else_lies_between_them(self):
        points, values = [(3, 4), (20, 30), (12, 1)], [BLUE, RED, (0.0, 0.0)]
        for reach in (0.05, math.inf):
            chroma = spread(textured(), points, values, reach=reach)
            np.testing.assert_allclose([chroma[:, row, column] for row, column in points], values, atol=1e-12)
            assert chroma[0].min() >= -0.1 - 1e-9 and chroma[0].max() <= 0.4 + 1e-9

    @pytest.mark.parametrize("reach", [1e-300, 1e-9, 0.05])
    def test_a_tiny_reach_leaves_no_color_undefined(self, reach):
        """Far away hardly a walk arrives: its share, and with it the hint's, is no longer a number."""
        luma = np.tile([0.5, 0.5, 0.5, 1.0], (2, 500))
        chroma = spread(luma, [(0, 0), (1, 9)], [BLUE, RED], reach=reach)
        np.testing.assert_allclose(chroma[:, [0, 1], [0, 9]], np.transpose([BLUE, RED]), atol=1e-12)
        assert np.abs(chroma.sum(axis=0) - sum(BLUE)).max() < 1e-9
        assert chroma.min() >= -0.1 - 1e-9 and chroma.max() <= 0.4 + 1e-9

    def test_two_hints_in_a_flat_picture_are_mirror_images(self):
        chroma = spread(np.full((9, 30), 0.5), [(4, 5), (4, 24)], [BLUE, RED])
        np.testing.assert_allclose(chroma[0], chroma[1, :, ::-1], atol=1e-9)
        assert np.all(np.diff(chroma[1, 4, 5:25]) > 0)
        np.testing.assert_allclose(chroma[:, 4, 8], BLUE, atol=0.05)  # the near hint rules

    def test_the_paper_s_equations_hold(self):
        luma, points = textured(), [(3, 4), (20, 30)]
        chroma = spread(luma, points, [BLUE, RED], reach=math.inf).reshape(2, -1)
        residual = chroma - (affinity(luma) @ chroma.T).T
        free = np.ones(luma.size, bool)
        free[[row * 32 + column for row, column in points]] = False
        assert np.abs(residual[:, free]).max() < 1e-12
        assert np.abs(residual[:, ~free]).max() > 1e-3

    def test_weights_of_neighbors_sum_to_one_and_follow_luma(self):
        luma = np.full((5, 6), 0.2)
        luma[:, 3:] = 0.8
        weights = affinity(luma).toarray()
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        pixel = weights[2 * 6 + 2].reshape(5, 6)
        assert pixel[2, 2] == 0 and (pixel > 0).sum() == 8
        assert pixel[2, 3] < 1e-2 * pixel[2, 1]

    def test_an_edge_stops_color(self):
        luma = np.full((20, 40), 0.3)
        luma[:, 20:] = 0.7
        for reach, least in ((math.inf, 0.05), (REACH, 0.1)):
            chroma = spread(luma, [(10, 14), (10, 34)], [BLUE, RED], reach=reach)
            assert np.abs(chroma[:, :, :20] - np.array(BLUE)[:, None, None]).max() < least
            assert np.abs(chroma[:, :, 20:] - np.array(RED)[:, None, None]).max() < least

    def test_hints_on_one_pixel_count_as_their_mean(self):
        chroma = spread(textured(), [(3, 4), (3, 4)], [BLUE, RED])
        np.testing.assert_allclose(chroma[:, 10, 10], [0.15, 0.15])

    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (512, 1)])
    def test_thin_pictures(self, size):
        assert np.isfinite(spread(np.linspace(0, 1, math.prod(size)).reshape(size), [(0, 0)], [BLUE])).all()
        assert hint_region(np.zeros(size), np.array([0]), np.array([0]))[0, 0, 0] == 1

    def test_bad_arguments(self):
        luma = textured()
        with pytest.raises(ValueError, match="`rows` must be below 24"):
            spread(luma, [(24, 0)], [BLUE])
        with pytest.raises(ValueError, match="`luma` must have shape"):
            spread(luma[None], [(0, 0)], [BLUE])
        with pytest.raises(ValueError, match=r"`chroma` must be finite and \(1, 2\)"):
            spread(luma, [(0, 0)], [BLUE, RED])
        with pytest.raises(ValueError, match="`reach` must be above 0, got 0"):
            spread(luma, [(0, 0)], [BLUE], reach=0)
        with pytest.raises(ValueError, match="k at least 1"):
            hint_region(luma, np.array([], int), np.array([], int))


class TestRegion:
    def test_of_a_flat_picture_is_a_disk(self):
        region = hint_region(np.full((100, 100), 0.5), np.array([50]), np.array([50]))[0]
        assert region[50, 50] == region[50, 55] == 1 and region[0, 0] == 0
        assert np.all(np.diff(region[50, 50:]) <= 0)
        assert 0.1 < region.mean() < 0.4

    @pytest.mark.parametrize("softness", [0, 3])
    def test_ends_at_an_edge_however_soft(self, softness):
        ramp = np.clip((np.arange(128) - 64) / max(softness, 1e-9), 0, 1) * 0.3
        luma = np.broadcast_to(0.3 + ramp, (128, 128))
        region = hint_region(luma, np.array([64]), np.array([56]))[0]
        assert region[64, 63] > 0.8 and region[64, 64 + softness + 1] < 0.05

    def test_does_not_depend_on_resolution(self):
        means = []
        for scale in (1, 3):
            luma = np.array(random_photo(64 * scale, 64 * scale, seed=1)) / 255
            means.append(hint_region(luma, np.array([32 * scale]), np.array([32 * scale])).mean())
        assert means[0] == pytest.approx(means[1], rel=0.15)


def off(picture: Image.Image, luminance: Image.Image, hint: tuple) -> float:
    """CIEDE2000 between a picture at a hint and the hint's chroma at the photograph's luma."""
    x, y, color = hint
    wanted = merge_luma_chroma(
        torch.full((1, 1, 1, 1), luminance.getpixel((x, y)) / 255), torch.tensor(Hint(*hint).chroma).view(1, 2, 1, 1)
    )
    found = torch.tensor(picture.getpixel((x, y))).view(1, 3, 1, 1) / 255
    return ciede2000(rgb_to_lab(found), rgb_to_lab(wanted)).item()


HINTS = [(20, 10, "#c02020"), (70, 50, "#2060d0"), (72, 50, "#20a040")]
PHOTO = random_photo(96, 64, seed=2)


class TestPipeline:
    @pytest.mark.parametrize("space", ["latent", "chroma"])
    @pytest.mark.parametrize("channels, noise_scale", [(4, 0.0), (8, 0.6)])
    def test_hinted_pixels_get_their_colors(self, channels, noise_scale, space):
        pipeline = tiny_pipeline(channels, noise_scale=noise_scale, color_scale_space=space)
        for color_scale in (0, 1, 3):
            image = pipeline(PHOTO, hints=HINTS, color_scale=color_scale).images[0]
            assert max(off(image, PHOTO, hint) for hint in HINTS) < 2
        back = np.array(image.convert("L")).astype(int)
        assert np.abs(back - np.array(PHOTO)).max() <= 1

    def test_embedded_model_colors_what_the_hint_is_on(self, embedded, example_files):
        (file,) = [file for file in example_files if "kingfisher" in file.name]
        with Image.open(file) as opened:
            photo = opened.convert("L")
        hint = (384, 216, "#d02020")
        plain, hinted = (embedded(photo, hints=hints, num_inference_steps=2).images[0] for hints in (None, [hint]))
        assert off(hinted, photo, hint) < 2
        change = np.abs(np.array(hinted).astype(int) - np.array(plain)).max(axis=2)
        assert change[180:260, 350:400].mean() > 40  # the bird's breast
        assert change[:, 600:].mean() < 3 and change[:, :100].mean() < 3  # the wall behind it

    def test_hints_act_during_sampling(self):
        pipeline = tiny_pipeline(8, noise_scale=0.6)
        predictions = []

        def keep(pipe, index, timestep, tensors):
            predictions.append(tensors["pred_original_sample"])

        pipeline(PHOTO, hints=HINTS[:1], callback_on_step_end=keep)
        pipeline(PHOTO, callback_on_step_end=keep)
        assert (predictions[0] - predictions[2]).abs().max() > 0.01

    def test_without_hints_nothing_changes(self):
        pipeline = tiny_pipeline(8, noise_scale=0.6)
        plain, empty, per_image = (pipeline(PHOTO, hints=hints, output_type="latent") for hints in (None, [], [None]))
        assert torch.equal(plain.images[0], empty.images[0]) and torch.equal(plain.images[0], per_image.images[0])
        assert "hints" not in plain.settings[0] and plain.settings == per_image.settings
        mixed = pipeline([PHOTO, PHOTO], hints=[None, HINTS], output_type="latent", batch_size=2)
        torch.testing.assert_close(mixed.images[0], plain.images[0], atol=1e-5, rtol=0)
        assert (mixed.images[1] - plain.images[0]).abs().max() > 0.01

    def test_result_does_not_depend_on_the_batch(self):
        pipeline = tiny_pipeline(8, noise_scale=0.6)
        photos = [random_photo(96, 64, seed=k) for k in range(3)]
        hints = [HINTS, [], HINTS[:1]]
        together = pipeline(photos, hints=hints, seed=[1, 2, 3], num_images_per_prompt=2, batch_size=6).images
        for k, photo in enumerate(photos):
            alone = pipeline(photo, hints=hints[k], seed=k + 1, num_images_per_prompt=2).images
            for a, b in zip(together[2 * k : 2 * k + 2], alone, strict=True):
                difference = np.abs(np.array(a).astype(int) - np.array(b))
                assert difference.max() <= 1 and (difference > 0).mean() < 1e-3

    def test_faded_photographs_keep_the_rest_of_their_color(self):
        pipeline = tiny_pipeline(8, noise_scale=0.6)
        faded = Image.merge("RGB", [random_photo(96, 64, seed=k) for k in range(3)])
        image = pipeline(faded, hints=HINTS, severity=0.3).images[0]
        assert max(off(image, faded.convert("L"), hint) for hint in HINTS) < 2

    def test_rendering_later_is_the_same_and_smaller_copies_are_hinted_too(self):
        pipeline = tiny_pipeline(color_scale_space="chroma")
        prediction = pipeline(PHOTO, hints=HINTS, output_type="chroma").images[0]
        luma = np.array(PHOTO)
        for scale in (0.5, 2.0):
            image = pipeline(PHOTO, hints=HINTS, color_scale=scale).images[0]
            np.testing.assert_array_equal(prediction.render(luma, scale), np.array(image))
        small = PHOTO.resize((48, 32))
        picture = Image.fromarray(prediction.render(np.array(small)))
        assert off(picture, small, (10, 5, "#c02020")) < 2

    def test_output_types_agree(self):
        pipeline = tiny_pipeline()
        pil, array, tensor = (pipeline(PHOTO, hints=HINTS, output_type=kind).images[0] for kind in ("pil", "np", "pt"))
        np.testing.assert_allclose(array, np.array(pil) / 255, atol=1e-6)
        np.testing.assert_array_equal(array, tensor.permute(1, 2, 0).numpy())
        deep = pipeline(np.array(PHOTO).astype(np.uint16) * 257, hints=HINTS, output_type="np").images[0]
        np.testing.assert_allclose(deep, array, atol=3 / 255)

    def test_photographs_smaller_than_the_model_s_resolution(self):
        photo = random_photo(5, 4)
        image = tiny_pipeline()(photo, hints=[(0, 0, "#c02020"), (4, 3, "#2060d0")]).images[0]
        assert off(image, photo, (0, 0, "#c02020")) < 2 and off(image, photo, (4, 3, "#2060d0")) < 2

    def test_settings_make_it_again(self):
        pipeline = tiny_pipeline(8, noise_scale=0.6)
        first = pipeline(PHOTO, hints=[Hint(20, 10, "#C02020")], seed=3)
        assert first.settings[0]["hints"] == [[20, 10, "#c02020"]]
        again = pipeline(PHOTO, hints=first.settings[0]["hints"], seed=3)
        assert np.array_equal(np.array(first.images[0]), np.array(again.images[0]))

    @pytest.mark.parametrize(
        "hints, message",
        [
            ([(96, 0, "#ff0000")], r"x from 0 to 95 and y from 0 to 63, got \(96, 0\)"),
            ([(0, 0, "red")], "\"#rrggbb\", got 'red'"),
            ([(0, 1.5, "#ff0000")], "y of a hint must be a whole number of at least 0, got 1.5"),
            ([(-1, 0, "#ff0000")], "x of a hint must be a whole number of at least 0, got -1"),
            ((0, 0, "#ff0000"), "`hints` must be a list of"),
            ([(0, 0)], "`hints` must"),
            ("#ff0000", "`hints` must be a list of"),
            (Hint(0, 0, "#ff0000"), "`hints` must be a list of"),
            ([[], []], r"one list per image \(1\), got 2 lists"),
        ],
    )
    def test_bad_hints(self, hints, message):
        with pytest.raises(ValueError, match=message):
            tiny_pipeline()(PHOTO, hints=hints)

    def test_one_list_does_not_do_for_several_photographs(self):
        with pytest.raises(ValueError, match=r"per image \(2\)"):
            hints_per_image([(0, 0, "#ff0000")], 2)


class TestHints:
    def test_forms(self):
        hint = Hint(1, 2, "#aabbcc")
        assert parse_hints([hint, (3, np.int64(4), "#AABBCC")]) == (hint, Hint(3, 4, "#aabbcc"))
        assert parse_hints(None) == parse_hints([]) == ()
        assert hints_per_image([[(1, 2, "#aabbcc")], None], 2) == [(hint,), ()]
        assert hints_per_image([[(1, 2, "#aabbcc")]], 1) == hints_per_image([(1, 2, "#aabbcc")], 1) == [(hint,)]
        check_inside((hint,), 2, 3)

    def test_the_last_hint_for_a_pixel_counts(self):
        assert parse_hints([(1, 2, "#aabbcc"), (1, 2, "#000000")]) == (Hint(1, 2, "#000000"),)

    def test_chroma(self):
        assert Hint(0, 0, "#808080").chroma == pytest.approx((0, 0), abs=1e-6)
        assert Hint(0, 0, "#0000ff").chroma[0] == pytest.approx(0.5)


class TestFiles:
    def test_read(self, tmp_path):
        file = tmp_path / "hints.csv"
        file.write_text('\ufeffa.jpg, 1,2,#ff0000\n\n"b, c.jpg",3,4,#00ff00\na.jpg,5,6,#0000FF\n', encoding="utf-8")
        assert read_hints(file) == {
            "a.jpg": (Hint(1, 2, "#ff0000"), Hint(5, 6, "#0000ff")),
            "b, c.jpg": (Hint(3, 4, "#00ff00"),),
        }
        file.write_text("1,2,#ff0000\n")
        assert read_hints(file) == {"": (Hint(1, 2, "#ff0000"),)}

    @pytest.mark.parametrize(
        "line, message",
        [
            ("1,2", "must be x,y,#rrggbb or FILE,x,y,#rrggbb, got '1,2'"),
            ("x,2,#ff0000", "x of a hint must be a whole number of at least 0, got 'x'"),
            ("1,-2,#ff0000", "y of a hint must be a whole number of at least 0, got -2"),
            ("1,2,red", "got 'red'"),
        ],
    )
    def test_bad_lines_are_named(self, tmp_path, line, message):
        file = tmp_path / "hints.csv"
        file.write_text(f"1,2,#ff0000\n{line}\n")
        with pytest.raises(ValueError) as error:
            read_hints(file)
        assert "hints.csv, line 2: " in str(error.value) and message in str(error.value)

    def test_other_files(self, tmp_path):
        file = tmp_path / "hints.csv"
        file.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ValueError, match="is not UTF-8 text"):
            read_hints(file)


class TestCommandLine:
    @pytest.fixture
    def album(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "album").mkdir()
        for name in ("one", "two", "three"):
            PHOTO.save(tmp_path / "album" / f"{name}.png")
        return tmp_path / "album"

    def run(self, *arguments) -> int:
        words = [*map(str, arguments), "--output", "out", "--steps", "1", "--device", "cpu"]
        try:
            return main(words)
        except SystemExit as stop:
            return stop.code

    def test_one_photograph(self, album, tmp_path):
        (tmp_path / "hints.csv").write_text("20,10,#c02020\n70,50,#2060d0\n")
        assert self.run(album / "one.png", "--hints", "hints.csv") == 0
        with Image.open("out/one.png") as image:
            assert max(off(image.convert("RGB"), PHOTO, hint) for hint in HINTS[:2]) < 2
        assert read_settings("out/one.png")["hints"] == [[20, 10, "#c02020"], [70, 50, "#2060d0"]]
        strip = colored_strip(album / "one.png", tmp_path / "out" / "one.png")
        sheet = draw_sheet([strip], ["input", "colored", "original"], width=192)
        assert sheet.getpixel((MARGIN + 41, LINE + MARGIN + 21)) == (0xC0, 0x20, 0x20)

    def test_folder_with_a_hint_outside_its_photograph(self, album, tmp_path, capsys):
        (tmp_path / "hints.csv").write_text("album/one.png,20,10,#c02020\nalbum/two.png,200,10,#c02020\n")
        assert self.run("album", "--hints", "hints.csv") == 1
        assert "two.png: a hint must lie inside the photograph" in capsys.readouterr().err
        assert read_settings("out/one.png")["hints"] == [[20, 10, "#c02020"]]
        assert "hints" not in read_settings("out/three.png")

    def test_bad_files(self, album, tmp_path, capsys):
        file = tmp_path / "hints.csv"
        for text, message in (
            ("1,2,#c02020\n", "each line must be FILE,x,y,#rrggbb, for there are 3 inputs"),
            ("album/four.png,1,2,#c02020\n", "album/four.png is none of the inputs"),
            ("1,2,blue\n", "hints.csv, line 1: "),
        ):
            file.write_text(text)
            assert self.run("album", "--hints", "hints.csv") == 2
            error = capsys.readouterr().err
            assert error.startswith("error: argument --hints: ") and message in error and error.count("\n") == 1
        assert self.run("album", "--hints", "none.csv") == 2
        assert "none.csv: No such file" in capsys.readouterr().err


def test_measurement(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.merge("RGB", [random_photo(96, 64, seed=k) for k in range(3)]).save(photos / "color.png")
    PHOTO.save(photos / "gray.png")
    words = ["--run", "--dataset", f"imagefolder:{photos}", "--counts", "2", "--steps", "1"]
    assert study(tmp_path, STUDY, *words) == 0
    assert "CIEDE2000 at 2 hints of original colors, 2 in each photograph" in capsys.readouterr().out
    entries = {entry.run: entry for entry in kept(tmp_path, STUDY)}
    ways = ("model", "solver", "solver_unlimited")
    assert entries.keys() == {"model, 0 hints", *(f"{way}, 2 hints" for way in ways)}
    model = entries["model, 2 hints"]
    assert model.data == {"name": "photos", "n": 1} and model.settings["num_inference_steps"] == 1
    for colors in ("original", "arbitrary"):
        errors = model.metrics[f"hint_error_{colors}"]
        assert errors["n"] == 2 and errors["maximum"] < 2


def test_a_picture_that_equals_its_original_spoils_no_mean_of_the_measurement():
    ways = ("model", "solver", "solver_unlimited")

    def photo(plain: float, hinted: float) -> dict:
        errors = {(colors, 1): np.array([1.0]) for colors in ("original", "arbitrary")}
        return {"psnr": {("model", 0): plain} | {(way, 1): hinted for way in ways}, "errors": errors}

    result = summarize([photo(20.0, 22.0), photo(30.0, math.inf), photo(math.inf, math.inf)], [1], 0)
    part = result["hints_per_photograph"]["1"]
    assert (result["psnr_without_hints"]["value"], result["psnr_without_hints"]["n"]) == (25, 2)
    assert all((part["psnr"][way]["value"], part["psnr_gain"][way]["value"]) == (22, 2) for way in ways)
    assert all(part["psnr_gain"][way]["n"] == 1 for way in ways)
    alone = summarize([photo(math.inf, math.inf)], [1], 0)
    assert alone["psnr_without_hints"]["value"] is None
    json.dumps([result, alone], allow_nan=False)
