"""The semantic encoder: arithmetic of the first guess, the network, and walks that start from it."""

import numpy as np
import pytest
import torch
from conftest import ENCODER_WIDTH, add_random_lora, guessing_pipeline, random_photo, tiny_encoder, tiny_pipeline
from PIL import Image

from colorization import ColorizationPipeline, load_pipeline, save_adapter
from colorization.adapters import widen_conv_in
from colorization.batching import resize_to_tensor
from colorization.color import luma, rgb_to_lab
from colorization.degradation import to_gray
from colorization.errors import ColorizationWarning
from colorization.semantic import SemanticEncoder, bin_centers, chroma_bin, guess_picture
from train.backbone import imagenet_weights
from train.backbone import main as convert


@pytest.fixture(scope="module")
def pipeline() -> ColorizationPipeline:
    return guessing_pipeline()


def pixels(pipeline, image, **settings) -> np.ndarray:
    return np.stack([np.asarray(picture) for picture in pipeline(image, **settings).images])


def pil_to_batch(pipeline, photo: Image.Image) -> torch.Tensor:
    """A photograph at model resolution, `(1, 3, h, w)` in [-1, 1]."""
    return resize_to_tensor(np.asarray(photo), pipeline.model_size(*photo.size))[None]


class TestArithmetic:
    def test_every_center_is_in_its_own_bin_and_the_outermost_bins_are_open(self):
        centers = bin_centers(5, 10.0)
        assert chroma_bin(centers.T[None, :, :, None], 5, 10.0).flatten().tolist() == list(range(25))
        far = torch.tensor([[-300.0, 300.0]])[:, :, None, None]
        assert chroma_bin(far, 5, 10.0).item() == 4

    def test_a_guess_keeps_the_luma_exactly_and_no_chroma_is_gray(self):
        gray = torch.rand(2, 1, 12, 16)
        colored = guess_picture(gray, 40 * torch.randn(2, 2, 3, 4))
        torch.testing.assert_close(luma(colored), gray, atol=1e-5, rtol=0)
        assert colored.min() >= 0 and colored.max() <= 1
        torch.testing.assert_close(guess_picture(gray, torch.zeros(2, 2, 3, 4)), gray.expand(-1, 3, -1, -1))

    def test_a_guess_has_the_chroma_that_was_asked_for(self):
        gray, chroma = torch.full((1, 1, 8, 8), 0.5), torch.tensor([12.0, -18.0]).view(1, 2, 1, 1)
        found = rgb_to_lab(guess_picture(gray, chroma))[:, 1:]
        torch.testing.assert_close(found, chroma.expand_as(found), atol=1.0, rtol=0)  # lightness follows the luma


class TestEncoder:
    @pytest.mark.parametrize("cells", [(4, 4), (5, 3), (13, 9)])
    def test_one_cell_per_eight_pixels_at_any_size(self, cells):
        height, width = (8 * side for side in cells)
        output = tiny_encoder(bins=7)(torch.rand(2, 1, height, width))
        assert output.features.shape == (2, ENCODER_WIDTH, *cells)
        assert output.chroma.shape == (2, 2, *cells) and output.bins.shape == (2, 49, *cells)
        assert all(planes.dtype == torch.float32 for planes in output.values())

    def test_a_batch_equals_its_members(self):
        encoder, photos = tiny_encoder(), torch.rand(3, 1, 64, 48)
        alone = torch.cat([encoder(photo[None]).chroma for photo in photos])
        torch.testing.assert_close(encoder(photos).chroma, alone, atol=1e-4, rtol=1e-4)

    def test_refuses_other_shapes(self):
        with pytest.raises(
            ValueError, match=r"`luma` must have shape \(batch, 1, height, width\), got \(1, 3, 64, 64\)"
        ):
            tiny_encoder()(torch.rand(1, 3, 64, 64))

    @pytest.mark.parametrize("training", [False, True], ids=["new", "training"])
    def test_the_backbones_statistics_are_left_alone(self, training):
        encoder = SemanticEncoder("tf_mobilenetv3_small_minimal_100", [ENCODER_WIDTH] * 3)
        before = {name: value.clone() for name, value in encoder.backbone.named_buffers()}
        (encoder.train() if training else encoder)(torch.rand(2, 1, 64, 64))
        assert all(torch.equal(before[name], value) for name, value in encoder.backbone.named_buffers())

    def test_the_weights_of_the_package_fit_the_network(self, tmp_path, capsys):
        weights = imagenet_weights()
        missing = SemanticEncoder().backbone.load_state_dict(weights, strict=False)
        assert missing.missing_keys == []
        assert {name.split(".")[0] for name in missing.unexpected_keys} == {"conv_head", "bn2", "classifier"}
        assert convert(["--output", str(tmp_path / "backbone.safetensors")]) == 0
        assert "backbone.safetensors: " in capsys.readouterr().out


class TestPipeline:
    def test_without_the_guess_everything_is_as_before(self, pipeline):
        without = tiny_pipeline(in_channels=8, noise_scale=0.6, color_scale_space="chroma", default_negative_prompt="")
        expected = pixels(without, random_photo())
        pipeline = guessing_pipeline(guess_severity=1.0)
        assert np.array_equal(pixels(pipeline, random_photo()), expected)

    def test_new_input_channels_that_are_zero_change_nothing(self):
        pipeline = guessing_pipeline(guess_severity=1.0)
        expected = pixels(pipeline, random_photo(), output_type="latent")
        widen_conv_in(pipeline.unet, 12 + ENCODER_WIDTH)
        assert pipeline.sees_guess
        # The sums of the convolution are the same; how the library blocks them may differ in the last bit.
        np.testing.assert_allclose(pixels(pipeline, random_photo(), output_type="latent"), expected, atol=2e-6)

    def test_trained_input_channels_look_at_the_semantics(self):
        pipeline = guessing_pipeline(guess_severity=1.0)
        widen_conv_in(pipeline.unet, 12 + ENCODER_WIDTH)
        torch.nn.init.normal_(pipeline.unet.conv_in.weight, std=0.2)
        before = pixels(pipeline, random_photo())
        torch.nn.init.normal_(pipeline.semantic_encoder.stem[0].weight)
        assert not np.array_equal(pixels(pipeline, random_photo()), before)

    def test_zero_steps_are_the_first_guess(self, pipeline):
        photo = random_photo()
        colored = pipeline(photo, num_inference_steps=0, output_type="chroma").images[0]
        size = [2 * side for side in pipeline.model_size(*photo.size)]
        assert colored.guide.shape[1:] == (size[1] // 2, size[0] // 2)
        assert colored.chroma.abs().max() > 0.01
        gray = guessing_pipeline()
        torch.nn.init.zeros_(gray.semantic_encoder.chroma_head.weight)
        torch.nn.init.zeros_(gray.semantic_encoder.chroma_head.bias)
        assert gray(photo, num_inference_steps=0, output_type="chroma").images[0].chroma.abs().max() < 1e-5

    def test_a_color_scale_in_latent_space_acts_on_the_first_guess_too(self):
        pipeline = guessing_pipeline(color_scale_space="latent")
        guess, half = (
            pipeline(random_photo(), num_inference_steps=0, color_scale=scale, output_type="chroma").images[0].chroma
            for scale in (1.0, 0.5)
        )
        torch.testing.assert_close(half, guess / 2)
        latents = [
            pipeline(random_photo(), num_inference_steps=0, color_scale=scale, output_type="latent").images[0]
            for scale in (0.0, 0.5, 1.0)
        ]
        torch.testing.assert_close(latents[1], (latents[0] + latents[2]) / 2)

    def test_the_first_guess_has_neither_severity_nor_seed(self, pipeline):
        with pytest.raises(ValueError, match="`severity` must be 1 where `num_inference_steps` is 0"):
            pipeline(random_photo(), num_inference_steps=0, severity=0.5)
        with pytest.warns(ColorizationWarning, match="has no seed: all variants of an image are equal"):
            pipeline(random_photo(), num_inference_steps=0, num_images_per_prompt=2)

    def test_a_faded_photograph_is_as_faded_whatever_the_walk_starts_from(self):
        """With a network that predicts no change the result is the input: colors on the way to gray."""
        photo = Image.merge("RGB", [random_photo(seed=seed) for seed in (1, 2, 3)])
        results = []
        for walk_from in ("gray", "guess"):
            pipeline = guessing_pipeline(walk_from=walk_from, default_sampler="euler")
            pipeline.scheduler.register_to_config(noise_scale=0.0)
            guess = pipeline(photo, num_inference_steps=0, output_type="latent").images[0]
            gray = pipeline.encode_image(to_gray(pil_to_batch(pipeline, photo)))[0]
            torch.nn.init.zeros_(pipeline.unet.conv_out.weight)
            torch.nn.init.zeros_(pipeline.unet.conv_out.bias)
            result = pipeline(photo, severity=0.5, output_type="latent").images[0]
            results.append(result - (0.5 * (guess - gray) if walk_from == "guess" else 0))
        torch.testing.assert_close(*results, atol=5e-3, rtol=0)  # the luma that the model sees has 8 bits

    def test_blanks_are_no_prompt(self, pipeline):
        settings = pipeline([random_photo()] * 2, prompt=["", "  "]).settings
        assert [each["start_severity"] for each in settings] == [0.4, 0.4]

    def test_the_encoder_stays_in_full_precision(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        loaded = load_pipeline(tmp_path, device="cpu", dtype=torch.bfloat16)
        assert loaded.unet.dtype == torch.bfloat16 and loaded.semantic_encoder.dtype == torch.float32
        assert loaded(random_photo()).images

    def test_an_adapter_of_a_base_that_sees_the_guess_is_loaded(self, tmp_path):
        base = guessing_pipeline(guess_severity=1.0)
        widen_conv_in(base.unet, 12 + ENCODER_WIDTH)
        base.save_pretrained(tmp_path / "base")
        add_random_lora(base)
        save_adapter(base, tmp_path / "adapter")
        loaded = load_pipeline(tmp_path / "base", adapter=tmp_path / "adapter", device="cpu")
        loaded.set_progress_bar_config(disable=True)
        assert np.array_equal(pixels(loaded, random_photo()), pixels(base, random_photo()))

    def test_zero_steps_need_the_encoder(self):
        with pytest.raises(ValueError, match="`num_inference_steps` must be a whole number of at least 1, got 0"):
            tiny_pipeline()(random_photo(), num_inference_steps=0)

    def test_the_less_severe_the_start_the_nearer_the_guess(self):
        photo, distances = random_photo(), []
        for severity in (0.1, 0.5, 0.9):
            pipeline = guessing_pipeline(guess_severity=severity)
            guess = pipeline(photo, num_inference_steps=0, output_type="latent").images[0]
            result = pipeline(photo, output_type="latent").images[0]
            distances.append((result - guess).square().mean().item())
        assert distances == sorted(distances)

    def test_a_walk_that_was_learned_from_the_guess_starts_there(self):
        pipeline = guessing_pipeline(walk_from="guess")
        torch.nn.init.zeros_(pipeline.unet.conv_out.weight)
        torch.nn.init.zeros_(pipeline.unet.conv_out.bias)
        pipeline.scheduler.register_to_config(noise_scale=0.0)
        guess = pipeline(random_photo(), num_inference_steps=0, output_type="latent").images[0]
        torch.testing.assert_close(pipeline(random_photo(), output_type="latent").images[0], guess)

    def test_photographs_with_and_without_prompt_are_colored_as_alone(self):
        pipeline = guessing_pipeline(prompted_guess_severity=0.8, default_guidance_scale=2.0)
        photos, prompts = [random_photo(seed=1), random_photo(seed=2), random_photo(48, 48)], ["red", "", "blue"]
        together = pipeline(photos, prompt=prompts, seed=[1, 2, 3])
        for photo, prompt, seed, image, settings in zip(
            photos, prompts, (1, 2, 3), together.images, together.settings, strict=True
        ):
            alone = pipeline(photo, prompt=prompt, seed=seed)
            assert alone.settings[0] == settings
            assert settings["start"] == "first guess" and settings["start_severity"] == (0.8 if prompt else 0.4)
            assert np.abs(np.asarray(alone.images[0], int) - np.asarray(image, int)).max() <= 1

    def test_variants_share_the_guess(self, pipeline):
        found, seen = pipeline.semantic_encoder.forward, []
        pipeline.semantic_encoder.forward = lambda luma: seen.append(len(luma)) or found(luma)
        try:
            variants = pixels(pipeline, [random_photo(), random_photo(seed=5)], num_images_per_prompt=3)
        finally:
            del pipeline.semantic_encoder.forward
        assert seen == [2] and not np.array_equal(variants[0], variants[1])

    def test_a_faded_photograph_keeps_its_own_colors(self, pipeline):
        settings = pipeline(random_photo().convert("RGB"), severity=0.5).settings[0]
        assert "start" not in settings and settings["severity"] == 0.5

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"guess_severity": 0.0}, "`guess_severity` must be above 0 and at most 1, got 0.0"),
            ({"prompted_guess_severity": 2}, "`prompted_guess_severity` must be above 0 and at most 1, got 2"),
            ({"walk_from": "red"}, r"`walk_from` must be one of \('gray', 'guess'\), got 'red'"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            guessing_pipeline(**settings)

    def test_a_walk_from_the_guess_needs_an_encoder(self):
        with pytest.raises(ValueError, match='`walk_from` "guess" needs the component `semantic_encoder`'):
            tiny_pipeline(walk_from="guess")

    def test_survives_saving_by_both_ways_of_loading(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        expected = pixels(pipeline, random_photo(), seed=4)
        loaded = load_pipeline(tmp_path, device="cpu")
        generic = ColorizationPipeline.from_pretrained(tmp_path)
        for other in (loaded, generic):
            other.set_progress_bar_config(disable=True)
            assert isinstance(other.semantic_encoder, SemanticEncoder)
            assert np.array_equal(pixels(other, random_photo(), seed=4), expected)
