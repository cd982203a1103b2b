"""What a photograph shows, in words: the table of usual colors, what is said, the head and its fitting."""

import csv
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import EXAMPLES
from PIL import Image

from colorization import naming
from colorization.color_words import COLOR_WORDS
from colorization.naming import NamingHead, Sighting, middle_chroma, see, usual_colors, usual_prompt
from colorization.semantic import SemanticEncoder
from train.backbone import NAME, imagenet_weights
from train.naming import Looks, calibrate, fit, imagenet_head, judge, label_classes, main, table


def index_of(name: str) -> int:
    return [thing.name for thing in usual_colors()].index(name)


def probabilities(**values: float) -> list[float]:
    """The given things have these probabilities (spaces written as "_"), the others share what is left."""
    left = (1 - sum(values.values())) / (1000 - len(values))
    row = [left] * 1000
    for name, value in values.items():
        row[index_of(name.replace("_", " "))] = value
    return row


class TestTable:
    def test_there_is_a_row_for_every_class_in_the_classifiers_order(self):
        things = usual_colors()
        assert len(things) == 1000
        info = timm.data.ImageNetInfo()
        for index in (1, 88, 120, 387, 555, 779, 951, 980):
            words = info.index_to_description(index, detailed=False).lower()
            assert things[index].name.split()[-1] in words or things[index].kind in words

    def test_rows_are_numbered(self):
        table = Path(naming.__file__).with_name("usual_colors.csv")
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["class"] for row in rows] == [str(index) for index in range(1000)]
        assert {row["say"] for row in rows} == {"yes", "no"}

    def test_colors_are_words_that_the_model_knows(self):
        for thing in usual_colors():
            assert set(thing.colors) <= set(COLOR_WORDS), thing
            assert len(set(thing.colors)) == len(thing.colors), thing
            assert thing.background in ("", *COLOR_WORDS), thing

    def test_what_is_said_has_a_color_and_what_is_not_has_none(self):
        for thing in usual_colors():
            assert thing.name and thing.kind
            assert thing.say == bool(thing.colors or thing.background), thing

    def test_one_kind_and_one_name_mean_one_set_of_colors(self):
        for attribute in ("kind", "name"):
            found = {}
            for thing in filter(lambda thing: thing.say, usual_colors()):
                looks = (thing.kind, thing.colors, thing.background)
                assert found.setdefault(getattr(thing, attribute), looks) == looks, thing

    def test_a_good_part_of_the_world_is_worth_saying(self):
        assert 350 <= sum(thing.say for thing in usual_colors()) <= 550


class TestPrompt:
    @pytest.mark.parametrize(
        "name, colors, background, expected",
        [
            ("macaw", ("red", "blue", "yellow"), "", "red macaw"),
            ("airliner", ("white",), "blue", "white airliner, blue background"),
            ("parachute", (), "blue", "parachute, blue background"),
            ("red panda", ("orange", "brown", "black"), "", "orange panda"),
            ("black bear", ("black",), "", "black bear"),
            ("orange", ("orange",), "", "orange"),
            ("panda", ("black", "white"), "", "black and white panda"),
            ("brown and white dog", ("brown", "white"), "", "brown and white dog"),
        ],
    )
    def test_form(self, name, colors, background, expected):
        assert usual_prompt(name, colors, background) == expected

    def test_every_prompt_names_a_color(self):
        for thing in filter(lambda thing: thing.say, usual_colors()):
            for name in (thing.name, thing.kind):
                words = usual_prompt(name, thing.colors, thing.background).replace(",", "").split()
                assert set(words) & set(COLOR_WORDS) and len(words) >= 1


class TestSee:
    def test_what_is_likely_is_said_with_its_colors(self):
        sighting = see(probabilities(macaw=0.8), 0.5)
        assert (sighting.name, sighting.colors) == ("macaw", ("red", "blue", "yellow"))
        assert sighting.probability == pytest.approx(0.8)
        assert sighting.prompt == "red macaw"

    def test_the_threshold_decides(self):
        row = probabilities(lemon=0.4)
        assert see(row, 0.41) is None
        assert see(row, 0.39).name == "lemon"

    def test_a_kind_adds_up(self):
        crabs = [index for index, thing in enumerate(usual_colors()) if thing.kind == "crab"]
        row = probabilities(lemon=0.3)
        for index in crabs:
            row[index] = 0.15
        sighting = see(row, 0.5)
        assert (sighting.name, len(crabs)) == ("crab", 4)
        assert sighting.probability == pytest.approx(0.6)

    def test_the_likely_one_of_a_kind_is_named(self):
        assert see(probabilities(leopard=0.5, cheetah=0.2), 0.6).name == "leopard"
        assert see(probabilities(leopard=0.3, cheetah=0.3, jaguar=0.3), 0.6).name == "spotted wild cat"

    def test_something_likelier_that_has_no_colors_of_its_own_silences(self):
        assert see(probabilities(sweatshirt=0.5, lemon=0.4), 0.3) is None

    def test_nothing_is_said_of_what_could_be_anything(self):
        assert see([1 / 1000] * 1000, 0.2) is None
        assert see([float("nan")] * 1000, 0.2) is None

    def test_the_number_of_classes_is_checked(self):
        with pytest.raises(ValueError):
            see([0.5, 0.5], 0.1)


@pytest.fixture(scope="module")
def original():
    network = timm.create_model(NAME, pretrained=False)
    network.load_state_dict(imagenet_weights(), strict=False)
    return network.eval()


@pytest.fixture(scope="module")
def head():
    return imagenet_head(imagenet_weights())


@pytest.fixture(scope="module")
def encoder():
    encoder = SemanticEncoder(widths=(8, 8, 8))
    encoder.backbone.load_state_dict(imagenet_weights(), strict=False)
    return encoder.eval()


class TestHead:
    @pytest.mark.parametrize("size", [(256, 256), (312, 208), (40, 72)])
    @torch.no_grad()
    def test_it_says_what_the_original_network_says_at_any_size(self, original, head, encoder, size):
        luma = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
        expected = original(((255 * luma - 127) / 128).expand(-1, 3, -1, -1))
        stage = encoder(luma).coarse
        torch.testing.assert_close(head.classifier(head.pool(stage)), expected, atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(head(stage), expected.softmax(dim=1), atol=1e-3, rtol=1e-3)

    def test_the_order_of_the_classes_is_that_of_the_table(self, original):
        image = Image.open(EXAMPLES / "erase_red_panda.jpg").convert("RGB").resize((240, 240))
        pixels = (torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)[None] - 127) / 128
        with torch.no_grad():
            assert usual_colors()[original(pixels).argmax().item()].name == "red panda"

    @torch.no_grad()
    def test_nothing_is_said_of_noise(self, head, encoder):
        luma = torch.rand(3, 1, 256, 256, generator=torch.Generator().manual_seed(1))
        assert head.sightings(encoder(luma).coarse) == [None, None, None]

    @torch.no_grad()
    def test_each_of_a_batch_gets_its_own(self):
        torch.manual_seed(0)
        head, stages = NamingHead(8, 16, 1000, threshold=0), torch.rand(3, 8, 2, 3)
        together = head.sightings(stages)
        apart = [head.sightings(stage[None])[0] for stage in stages]
        assert [one and one.name for one in together] == [one and one.name for one in apart]

    def test_saved_in_half_precision_and_loaded(self, tmp_path):
        head = NamingHead(8, 16, 1000, threshold=0.37)
        head.half().save_pretrained(tmp_path)
        loaded = NamingHead.from_pretrained(tmp_path)
        assert loaded.config.threshold == 0.37
        assert loaded(torch.rand(1, 8, 3, 2)).dtype == torch.float32


def looks(head: NamingHead, count: int = 60) -> Looks:
    """Features at random, and a teacher that another classifier is."""
    generator = torch.Generator().manual_seed(5)
    pooled = torch.randn(count, head.config.width, generator=generator)
    teacher = torch.randn(1000, head.config.width, generator=generator)
    shares = np.full((count, len(COLOR_WORDS)), 1 / len(COLOR_WORDS))
    return Looks(pooled, (pooled @ teacher.T).softmax(dim=1), shares, ["macaw", "somebody"] * (count // 2))


class TestFitting:
    def test_the_fit_keeps_the_best_epoch(self):
        torch.manual_seed(0)
        head = NamingHead(4, 16)
        found = looks(head)
        errors = fit(head, found, epochs=3, rate=1e-2)
        assert len(errors) == 4 and min(errors) < errors[0]
        again = fit(head, found, epochs=0)
        assert again == [pytest.approx(min(errors))]

    def test_calibration_divides_by_the_temperature(self):
        torch.manual_seed(0)
        head = NamingHead(4, 16)
        found = looks(head)
        with torch.no_grad():
            logits = head.classifier(found.pooled)
            sharp = Looks(found.pooled, (logits / 0.5).softmax(dim=1), found.shares, found.labels)
            assert calibrate(head, sharp) == pytest.approx(0.5)
            torch.testing.assert_close(head.classifier(found.pooled), logits / 0.5)

    def test_labels_find_their_classes(self):
        info = timm.data.ImageNetInfo()
        assert label_classes("lesser panda", info) == {387} == label_classes("red panda", info)
        assert label_classes("crab", info) == {118, 119, 120, 121}
        assert label_classes("somebody", info) == set() == label_classes("", info)

    def test_judgement_counts_what_is_said(self):
        class Fixed(torch.nn.Module):
            def forward(self, pooled):
                return torch.tensor([probabilities(macaw=0.9), probabilities(sweatshirt=0.9)]).log()

        head = NamingHead(4, 16)
        head.classifier = Fixed()
        named = torch.tensor([probabilities(macaw=0.7), probabilities(lemon=0.7)])
        shares = np.zeros((2, len(COLOR_WORDS)))
        shares[:, COLOR_WORDS.index("blue")] = 1
        verdicts = judge(head, Looks(torch.zeros(2, 16), named, shares, ["macaw", "sock"]))
        assert verdicts[1] is None
        assert (verdicts[0].sighting.name, verdicts[0].labeled, verdicts[0].colored) == ("macaw", True, True)
        assert verdicts[0].agreed == pytest.approx(0.7)
        rows = {row["threshold"]: row for row in table(verdicts)}
        assert (rows[0.5]["said"], rows[0.5]["share"], rows[0.5]["label_right"]) == (1, 0.5, 1.0)

    def test_the_command_writes_head_and_figures(self, tmp_path, encoder, capsys):
        encoder.save_pretrained(tmp_path / "encoder")
        for split in ("train", "validation"):
            for name in ("lemon", "macaw"):
                folder = tmp_path / "photos" / split / name
                folder.mkdir(parents=True)
                for number in range(5 if split == "train" else 1):
                    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}.png")
        settings = ["--encoder", str(tmp_path / "encoder"), "--photos", str(tmp_path / "photos")]
        assert main([*settings, "--output", str(tmp_path / "out"), "--count", "10", "--threshold", "0.6"]) == 0
        assert (tmp_path / "out" / "naming.json").exists()
        assert NamingHead.from_pretrained(tmp_path / "out" / "model").config.threshold == 0.6


def test_only_vivid_things_are_said_where_the_guess_is_dull():
    head = NamingHead(4, 8, known_chroma=10.0)
    dull, vivid = torch.full((2, 5, 5), 1.0), torch.full((2, 5, 5), 20.0)
    macaw, bear = Sighting("macaw", ("red", "blue"), "", 0.9), Sighting("bear", ("brown",), "", 0.9)
    assert head.helps(macaw, dull) and not head.helps(macaw, vivid)
    assert not head.helps(bear, dull) and not head.helps(None, dull)
    assert NamingHead(4, 8).helps(bear, vivid)  # without a limit everything is said


def test_the_middle_is_what_counts():
    chroma = torch.zeros(2, 10, 10)
    chroma[:, 2:8, 2:8] = 3.0
    assert middle_chroma(chroma) == pytest.approx(3 * 2**0.5)
