"""What a model explains of the chroma: the metrics, and the study that measures them by film and group."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import EXAMPLES, tiny_pipeline

from eval.__main__ import main as evaluate
from eval.metrics.knowledge import cell_chroma, chroma_energies, skin_error, skin_mask
from eval.studies.knowledge import film_luma, measure_photo, summarize
from eval.studies.ledger import read_entries


def blocks(*colors: tuple[float, float, float]) -> torch.Tensor:
    """A picture of one 8 x 8 block of each color, side by side."""
    return torch.tensor(colors).T[None, :, None].repeat_interleave(8, 2).repeat_interleave(8, 3)


class TestMetrics:
    def test_gray_explains_nothing_and_the_original_everything(self):
        original = blocks((0.8, 0.3, 0.2), (0.2, 0.4, 0.9))
        gray, wanted = (cell_chroma(picture) for picture in (torch.full((1, 3, 8, 16), 0.5), original))
        error, total = chroma_energies(gray, wanted)
        torch.testing.assert_close(error, total, rtol=1e-3, atol=0)
        error, _ = chroma_energies(wanted, wanted)
        assert error.item() == 0

    def test_cells_are_means_of_what_there_is_at_the_border(self):
        picture = torch.rand(1, 3, 12, 20)
        assert cell_chroma(picture).shape == (1, 2, 2, 3)
        flat = blocks((0.8, 0.3, 0.2))[:, :, :5, :3]
        torch.testing.assert_close(cell_chroma(flat), cell_chroma(blocks((0.8, 0.3, 0.2))))

    def test_skin_is_skin_and_grass_is_not(self):
        mask = skin_mask(blocks((0.85, 0.65, 0.52), (0.25, 0.55, 0.2), (0.5, 0.5, 0.5)))
        assert mask[0, 0, ::8].tolist() == [True, False, False]

    def test_the_error_counts_skin_alone_and_only_where_there_is_enough(self):
        original = blocks((0.85, 0.65, 0.52), (0.25, 0.55, 0.2))
        changed = original.clone()
        changed[..., 8:] = 0.5
        assert skin_error(changed, original).item() == 0
        assert math.isnan(skin_error(changed, blocks((0.25, 0.55, 0.2), (0.5, 0.5, 0.5))).item())


class TestStudy:
    def test_films_see_their_own_colors(self):
        red = np.array([[[255, 0, 0]]], np.uint8)
        assert [film_luma(red, film).item() for film in ("pan", "ortho", "blue")] == [76, 0, 0]

    def test_the_first_seed_is_what_a_user_gets_and_all_make_the_mean(self):
        pipeline = tiny_pipeline(
            in_channels=8, noise_scale=0.6, color_scale_space="chroma", default_negative_prompt=""
        )
        original = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
        alone, found = (measure_photo(pipeline, original, "pan", seed=0, seeds=seeds) for seeds in (1, 4))
        assert alone["error"] == alone["mean_error"]
        assert found["error"] == pytest.approx(alone["error"]) and found["mean_error"] != found["error"]
        summary = summarize([found, found], 0)
        assert summary["explained_single"]["value"] == pytest.approx(1 - found["error"] / found["chroma"])
        assert summary["explained_mean"]["n"] == 2

    def test_from_the_command_to_the_ledger(self, tmp_path, capsys):
        images = [{"bytes": file.read_bytes(), "path": None} for file in sorted(EXAMPLES.glob("*.jpg"))[:3]]
        table = pa.table({"image": images, "source": ["crowd", "birds6", "birds6"]})
        pq.write_table(table, tmp_path / "validation-0.parquet")
        model = tmp_path / "model"
        tiny_pipeline(
            in_channels=8, noise_scale=0.6, color_scale_space="chroma", default_negative_prompt=""
        ).save_pretrained(model)
        ledger, spec = tmp_path / "ledger.jsonl", f"parquet:{tmp_path}/validation-*.parquet"
        words = ["--run", "--dataset", spec, "--model", str(model), "--label", "tiny", "--films", "pan", "blue"]
        where = ["--ledger", str(ledger), "--root", str(tmp_path)]
        assert evaluate(["study", "knowledge", *words, "--seeds", "2", *where]) == 0
        entries = {entry.run: entry for entry in read_entries("knowledge", ledger)}
        assert entries["tiny, pan, people"].data["n"] == 1 and entries["tiny, blue, other"].data["n"] == 2
        assert entries["tiny, pan, all"].metrics["explained_single"]["interval"] is not None
        assert "tiny, blue, all (n 3)" in capsys.readouterr().out

    def test_measuring_needs_photographs(self, tmp_path, capsys):
        where = ["--ledger", str(tmp_path / "ledger.jsonl"), "--root", str(tmp_path)]
        with pytest.raises(SystemExit):
            evaluate(["study", "knowledge", "--run", *where])
        assert "--dataset" in capsys.readouterr().err
