"""The pipeline's contract, on real components at tiny size and on the embedded model."""

import warnings

import numpy as np
import pytest
import torch
from conftest import add_random_lora, random_photo, tiny_components, tiny_pipeline
from diffusers import PNDMScheduler
from PIL import Image

from colorization import ColdDiffusionScheduler, ColorizationPipeline
from colorization.batching import model_size


@pytest.fixture(scope="module")
def deterministic():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def stochastic():
    return tiny_pipeline(in_channels=8, noise_scale=0.6)


def as_array(image: Image.Image) -> np.ndarray:
    return np.array(image).astype(int)


def assert_same_picture(first: Image.Image, second: Image.Image) -> None:
    """The project's tolerance: at most one level of difference in at most 0.01% of the values."""
    difference = np.abs(as_array(first) - as_array(second))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-4


class TestOutputs:
    def test_pil_has_the_size_of_each_input(self, deterministic):
        photos = [random_photo(48, 32), random_photo(33, 57), random_photo(5, 5)]
        images = deterministic(photos).images
        assert [image.size for image in images] == [photo.size for photo in photos]
        assert all(image.mode == "RGB" for image in images)

    def test_output_types_agree(self, deterministic):
        photo = random_photo()
        pil, array, tensor = (deterministic(photo, output_type=kind).images[0] for kind in ("pil", "np", "pt"))
        assert array.shape == (32, 48, 3) and array.dtype == np.float32
        assert tensor.shape == (3, 32, 48) and tensor.dtype == torch.float32
        np.testing.assert_allclose(array, np.array(pil) / 255, atol=1e-6)
        np.testing.assert_array_equal(array, tensor.permute(1, 2, 0).numpy())

    def test_latent_has_model_resolution(self, deterministic):
        latent = deterministic(random_photo(48, 32), output_type="latent").images[0]
        width, height = deterministic.model_size(48, 32)
        assert latent.shape == (4, height // 2, width // 2)
        assert latent.dtype == torch.float32

    def test_tuple_equals_dict(self, deterministic):
        photo = random_photo()
        as_tuple = deterministic(photo, return_dict=False)
        assert isinstance(as_tuple, tuple)
        assert as_array(as_tuple[0][0]).tolist() == as_array(deterministic(photo).images[0]).tolist()

    def test_luminance_is_the_inputs(self, deterministic):
        photo = random_photo(64, 40)
        back = deterministic(photo).images[0].convert("L")
        assert np.abs(as_array(back) - as_array(photo)).max() <= 1

    def test_color_input_is_treated_by_its_luminance(self, deterministic):
        color = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
        from_color, from_gray = deterministic([color, color.convert("L")]).images
        assert_same_picture(from_color, from_gray)

    def test_settings_tell_how_it_was_made(self, stochastic):
        settings = stochastic(random_photo(), prompt="red bus", seed=5, num_images_per_prompt=2).settings
        assert [s["seed"] for s in settings] == [5, 6]
        assert settings[0]["prompt"] == "red bus"
        assert settings[0]["sampler"] == "euler"
        assert settings[0]["color_scale_space"] == "latent"

    def test_sixteen_bit_arrays_keep_their_depth(self, deterministic):
        ramp = np.linspace(0, 65535, 32 * 48).astype(np.uint16).reshape(32, 48)
        array = deterministic(ramp, output_type="np").images[0]
        assert np.abs(array @ [0.299, 0.587, 0.114] - ramp / 65535).max() < 2 / 65535


class TestReproducibility:
    def test_image_of_a_batch_does_not_depend_on_its_neighbours(self, stochastic):
        photos = [random_photo(300, 200, seed=k) for k in range(3)] + [random_photo(200, 300, seed=9)]
        together = stochastic(photos, seed=[1, 2, 3, 4], batch_size=3).images
        alone = [stochastic(photo, seed=k + 1).images[0] for k, photo in enumerate(photos)]
        one_by_one = stochastic(photos, seed=[1, 2, 3, 4], batch_size=1).images
        for a, b, c in zip(together, alone, one_by_one, strict=True):
            assert_same_picture(a, b)
            assert_same_picture(b, c)

    def test_same_seed_same_result_other_seed_other_result(self, stochastic):
        first, again, other = (stochastic(random_photo(), seed=s, output_type="latent").images[0] for s in (1, 1, 2))
        assert torch.equal(first, again)
        assert (first - other).abs().max() > 1e-2

    def test_deterministic_model_ignores_the_seed(self, deterministic):
        first, other = (deterministic(random_photo(), seed=s, output_type="latent").images[0] for s in (1, 2))
        assert torch.equal(first, other)

    def test_variant_k_is_seed_plus_k(self, stochastic):
        variants = stochastic(random_photo(), seed=3, num_images_per_prompt=2).images
        for k, variant in enumerate(variants):
            assert_same_picture(variant, stochastic(random_photo(), seed=3 + k).images[0])

    def test_embedded_model_in_batches_with_guidance(self, embedded, example_files):
        call = {"guidance_scale": 2.0, "num_inference_steps": 2}
        photos, prompts = example_files[3:6], ["red", "", "blue sky"]
        together = embedded(photos, prompt=prompts, seed=[1, 2, 3], batch_size=3, **call).images
        for k, photo in enumerate(photos):
            alone = embedded(photo, prompt=prompts[k], seed=k + 1, **call).images[0]
            assert_same_picture(together[k], alone)

    def test_variants_of_mixed_sizes_come_in_order(self, stochastic):
        photos = [random_photo(60, 40), random_photo(40, 60), random_photo(60, 40, seed=1)]
        result = stochastic(photos, num_images_per_prompt=2, seed=[10, 20, 30], prompt=["a", "b", "c"])
        assert [image.size for image in result.images] == [p.size for p in photos for _ in range(2)]
        assert [s["seed"] for s in result.settings] == [10, 11, 20, 21, 30, 31]
        assert [s["prompt"] for s in result.settings] == ["a", "a", "b", "b", "c", "c"]

    def test_list_of_generators_is_a_list_of_seeds(self, stochastic):
        photos = [random_photo(60, 40), random_photo(40, 60)]
        generators = [torch.Generator().manual_seed(s) for s in (5, 6)]
        by_generator = stochastic(photos, generator=generators, output_type="latent").images
        by_seed = stochastic(photos, seed=np.array([5, 6]).tolist(), output_type="latent").images
        assert all(torch.equal(a, b) for a, b in zip(by_generator, by_seed, strict=True))

    def test_numbers_of_numpy_are_numbers(self, stochastic):
        settings = stochastic(
            random_photo(), seed=np.int64(3), num_inference_steps=np.int64(1), color_scale=np.float32(0.5)
        ).settings[0]
        assert (settings["seed"], settings["num_inference_steps"], settings["color_scale"]) == (3, 1, 0.5)

    def test_generator_replaces_the_seed(self, stochastic):
        by_seed = stochastic(random_photo(), seed=3, output_type="latent").images[0]
        generator = torch.Generator().manual_seed(3)
        by_generator = stochastic(random_photo(), generator=generator, output_type="latent").images[0]
        assert torch.equal(by_seed, by_generator)


class TestGuidance:
    def test_guidance_one_is_no_guidance_and_costs_one_pass(self, deterministic):
        """Bit for bit what a hand-written loop without any guidance gives."""
        photo, prompt = random_photo(), "red bus"
        latent = deterministic(photo, prompt=prompt, guidance_scale=1, output_type="latent").images[0]
        rows = count_unet_rows(deterministic, photo, prompt=prompt, guidance_scale=1)
        assert rows == [1, 1]
        same = {"prompt": prompt, "negative_prompt": prompt}  # guidance between equals changes nothing either
        assert count_unet_rows(deterministic, photo, guidance_scale=2, **same) == [1, 1]
        assert count_unet_rows(deterministic, photo, prompt=prompt, guidance_scale=2) == [2, 2]

        width, height = deterministic.model_size(*photo.size)
        gray = torch.from_numpy(np.array(photo.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)))
        gray = (gray.float() / 127.5 - 1).expand(1, 3, -1, -1)
        with torch.no_grad():
            z = z_gray = deterministic.encode_image(gray)
            text = deterministic.encode_prompt([prompt])
            deterministic.scheduler.set_timesteps(2)
            for timestep in deterministic.scheduler.timesteps:
                output = deterministic.unet(z, timestep, encoder_hidden_states=text).sample
                step = deterministic.scheduler.step(output, timestep, z, z_gray)
                z = step.prev_sample
        assert torch.equal(latent, step.pred_original_sample[0])

    def test_guidance_starts_from_the_negative_prediction(self, deterministic):
        """s = 0 is the negative prompt alone; s in between is the straight line between both."""
        photo = random_photo()
        call = {"num_inference_steps": 1, "output_type": "latent"}
        negative = deterministic(photo, prompt="blue", guidance_scale=1, **call).images[0]
        positive = deterministic(photo, prompt="red", guidance_scale=1, **call).images[0]
        for scale in (0, 2.5):
            guided = deterministic(photo, prompt="red", negative_prompt="blue", guidance_scale=scale, **call).images[0]
            expected = negative + scale * (positive - negative)
            torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)

    def test_negative_prompt_without_guidance_warns(self, deterministic):
        with pytest.warns(UserWarning, match="`negative_prompt` has no effect at a `guidance_scale` of 1"):
            deterministic(random_photo(), negative_prompt="blue", guidance_scale=1)

    def test_long_prompt_warns_and_quotes_what_is_lost(self, deterministic):
        with pytest.warns(UserWarning, match="77 tokens and was cut; ignored: .*z"):
            deterministic(random_photo(), prompt="a" * 90 + " z")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            deterministic(random_photo(), prompt="a red bus")

    def test_prompts_are_encoded_once(self):
        pipeline = tiny_pipeline()
        passes = []
        pipeline.text_encoder.register_forward_hook(lambda *_: passes.append(1))
        first = pipeline(random_photo(), prompt="red", output_type="latent").images[0]
        again = pipeline(random_photo(), prompt="red", output_type="latent").images[0]
        assert len(passes) == 1
        assert torch.equal(first, again)

    @pytest.mark.parametrize("write", [lambda p: p.mul_(2), lambda p: p.data.copy_(2 * p.data)])
    def test_prompt_cache_notices_new_weights(self, write):
        """Also those written through `.data`, as EMA models do."""
        pipeline = tiny_pipeline()
        with torch.no_grad():
            before = pipeline.encode_prompt(["red"]).clone()
            assert torch.equal(pipeline.encode_prompt(["red"]), before)
            write(pipeline.text_encoder.get_input_embeddings().weight)
            assert not torch.equal(pipeline.encode_prompt(["red"]), before)

    def test_prompts_can_be_trained(self):
        pipeline = tiny_pipeline()
        for _ in range(2):
            pipeline.encode_prompt(["red"]).sum().backward()
        with torch.no_grad():
            assert not pipeline.encode_prompt(["red"]).requires_grad
        assert pipeline.encode_prompt(["red"]).requires_grad


def count_unet_rows(pipeline: ColorizationPipeline, photo: Image.Image, **call) -> list[int]:
    """Batch size of every UNet pass during one call."""
    rows = []
    handle = pipeline.unet.register_forward_pre_hook(lambda module, inputs: rows.append(inputs[0].shape[0]))
    try:
        pipeline(photo, **call)
    finally:
        handle.remove()
    return rows


class TestModel:
    def test_stock_scheduler_is_refused(self):
        with pytest.raises(ValueError, match="`scheduler` must be a ColdDiffusionScheduler, got PNDMScheduler"):
            ColorizationPipeline(**tiny_components(), scheduler=PNDMScheduler())

    def test_stochastic_start_needs_the_gray_latent(self, deterministic):
        with pytest.raises(ValueError, match="`noise_scale` 0.6 needs a UNet with 8 input channels"):
            tiny_pipeline(in_channels=4, noise_scale=0.6)
        pipeline = tiny_pipeline()
        pipeline.scheduler = ColdDiffusionScheduler(noise_scale=0.3)  # replaced after loading
        with pytest.raises(ValueError, match="`noise_scale` 0.3 needs a UNet with 8 input channels"):
            pipeline(random_photo())

    def test_color_scale_in_latent_space_is_the_papers(self, deterministic):
        photo = random_photo()
        gray, half, full = (deterministic(photo, color_scale=s, output_type="latent").images[0] for s in (0, 0.5, 1))
        torch.testing.assert_close(half, (gray + full) / 2, atol=1e-5, rtol=0)

    def test_color_scale_in_chroma_space_needs_no_new_sampling(self):
        pipeline = tiny_pipeline(color_scale_space="chroma")
        photo = random_photo()
        prediction = pipeline(photo, color_scale=1, output_type="chroma").images[0]
        rendered = prediction.render(np.array(photo), color_scale=0.4)
        np.testing.assert_array_equal(rendered, np.array(pipeline(photo, color_scale=0.4).images[0]))

    def test_final_state_and_final_prediction_differ_for_the_cold_sampler(self):
        photo = random_photo()
        prediction, state = (
            tiny_pipeline(final=final)(photo, output_type="latent").images[0] for final in ("prediction", "state")
        )
        assert (prediction - state).abs().max() > 1e-3

    def test_networks_may_be_bf16_while_latents_stay_float32(self):
        pipeline = tiny_pipeline(in_channels=8, noise_scale=0.6).to(torch.bfloat16)
        seen = []
        latent = pipeline(
            random_photo(),
            output_type="latent",
            callback_on_step_end=lambda pipe, i, t, tensors: seen.extend(v.dtype for v in tensors.values()),
        ).images[0]
        assert latent.dtype == torch.float32 and set(seen) == {torch.float32}

    def test_save_and_load_keep_results_and_defaults(self, tmp_path):
        pipeline = tiny_pipeline(in_channels=8, noise_scale=0.6, default_color_scale=0.7, default_seed=11)
        pipeline.save_pretrained(tmp_path)
        again = ColorizationPipeline.from_pretrained(tmp_path)
        assert again.config.default_color_scale == 0.7 and again.config.default_seed == 11
        photo = random_photo()
        first, second = (p(photo, output_type="latent").images[0] for p in (pipeline, again))
        torch.testing.assert_close(first, second, atol=1e-5, rtol=0)

    def test_callback_sees_every_step_and_may_change_the_latents(self, deterministic):
        steps = []

        def callback(pipe, index, timestep, tensors):
            steps.append((index, round(float(timestep), 2)))
            return {"pred_original_sample": torch.zeros_like(tensors["pred_original_sample"])}

        latent = deterministic(random_photo(), output_type="latent", callback_on_step_end=callback).images[0]
        assert steps == [(0, 999.0), (1, 499.5)]
        assert latent.abs().max() == 0

    def test_an_exception_in_the_callback_cancels(self, deterministic):
        def cancel(*_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            deterministic(random_photo(), callback_on_step_end=cancel)
        deterministic(random_photo())  # and the pipeline still works

    def test_vae_slicing(self, deterministic):
        photos = [random_photo(300, 200, seed=1), random_photo(300, 200, seed=2)]
        whole = deterministic(photos).images
        deterministic.vae.enable_slicing()
        sliced = deterministic(photos).images
        deterministic.vae.disable_slicing()
        for a, b in zip(whole, sliced, strict=True):
            assert_same_picture(a, b)

    def test_values_that_are_not_finite_are_an_error(self):
        pipeline = tiny_pipeline()
        torch.nn.init.constant_(pipeline.unet.conv_out.bias, float("nan"))
        with pytest.raises(RuntimeError, match="the model's output is not finite"):
            pipeline(random_photo())

    def test_model_cpu_offload(self, deterministic):
        pipeline = tiny_pipeline()
        pipeline.enable_model_cpu_offload(device="cpu")
        for _ in range(2):
            result = pipeline(random_photo(), output_type="latent").images[0]
            expected = deterministic(random_photo(), output_type="latent").images[0]
            torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)

    def test_adapter_can_be_disabled_and_unloaded(self):
        pipeline, plain = tiny_pipeline(), tiny_pipeline()
        add_random_lora(pipeline)
        base, adapted = (p(random_photo(), output_type="latent").images[0] for p in (plain, pipeline))
        assert (adapted - base).abs().max() > 1e-3
        with pytest.raises(ValueError, match="an adapter is attached: use `save_adapter`"):
            pipeline.save_pretrained("nowhere")
        pipeline.disable_lora()
        torch.testing.assert_close(pipeline(random_photo(), output_type="latent").images[0], base, atol=1e-6, rtol=0)
        pipeline.unload_lora_weights()
        torch.testing.assert_close(pipeline(random_photo(), output_type="latent").images[0], base, atol=1e-6, rtol=0)

    def test_images_are_encoded_by_the_mode(self, deterministic):
        """Sampling the posterior would give another latent each time, whatever the seed of the call."""
        image = torch.rand(1, 3, 16, 16) * 2 - 1
        with torch.no_grad():
            z = deterministic.encode_image(image)
            mode = deterministic.vae.encode(image).latent_dist.mode() * deterministic.vae.config.scaling_factor
        torch.testing.assert_close(z, mode)

    @pytest.mark.parametrize("color", [(128, 128, 128), (230, 40, 40), (40, 60, 230)])
    def test_cards_survive_encoding_and_decoding(self, embedded, color):
        """[-1, 1] into the VAE and out of it: a wrong range would shift gray and wash out the saturated cards."""
        card = torch.tensor(color).view(1, 3, 1, 1).expand(1, 3, 64, 64) / 255
        with torch.no_grad():
            decoded = embedded.decode_latents(embedded.encode_image(card * 2 - 1))
        assert (decoded - card)[..., 8:-8, 8:-8].abs().max() < 16 / 255


class TestSeverity:
    def test_faded_color_is_kept(self, embedded):
        """A faded photograph at low severity comes back near its own hues; from scratch it need not."""
        red = np.full((64, 64, 3), (170, 110, 110), np.uint8)
        kept = np.array(embedded(Image.fromarray(red), severity=0.2).images[0]).reshape(-1, 3).mean(0)
        assert kept[0] > kept[1] + 20 and kept[0] > kept[2] + 20

    def test_walk_starts_part_of_the_way(self, deterministic):
        timesteps = []
        deterministic(
            random_photo(),
            severity=0.5,
            callback_on_step_end=lambda pipe, i, t, tensors: timesteps.append(float(t)),
        )
        assert timesteps == pytest.approx([499.5, 249.75])


class TestModelSize:
    @pytest.mark.parametrize(
        ("width", "height", "expected"),
        [(768, 768, (128, 128)), (768, 512, (156, 104)), (4000, 3000, (148, 112)), (10, 10, (128, 128))],
    )
    def test_area_and_aspect_are_kept(self, width, height, expected):
        assert model_size(width, height, resolution=128, multiple=4) == expected

    @pytest.mark.parametrize(("width", "height"), [(1, 12000), (12000, 1), (1, 1), (12000, 12000)])
    def test_extreme_sides_are_capped(self, width, height):
        sides = model_size(width, height, resolution=128, multiple=4)
        assert all(32 <= side <= 512 and side % 4 == 0 for side in sides)

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 7)])
    def test_extreme_photographs_come_back_at_their_size(self, embedded, size):
        assert embedded(Image.new("L", size, 90), num_inference_steps=1).images[0].size == size


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_inference_steps": 0}, "`num_inference_steps` must be a whole number of at least 1, got 0"),
            ({"num_inference_steps": 2.5}, "`num_inference_steps` must be a whole number of at least 1, got 2.5"),
            ({"guidance_scale": -1}, "`guidance_scale` must be a finite number of at least 0, got -1"),
            ({"guidance_scale": float("nan")}, "`guidance_scale` must be a finite number of at least 0, got nan"),
            ({"guidance_scale": True}, "`guidance_scale` must be a finite number of at least 0, got True"),
            ({"color_scale": float("inf")}, '`color_scale` must be a finite number of at least 0 or "auto", got inf'),
            ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1, got 0"),
            ({"num_images_per_prompt": 0}, "`num_images_per_prompt` must be a whole number of at least 1, got 0"),
            ({"severity": 0}, "`severity` must be above 0 and at most 1"),
            ({"severity": 1.5}, "`severity` must be above 0 and at most 1"),
            ({"sampler": "ddim"}, "`sampler` must be one of .* got 'ddim'"),
            ({"output_type": "jpg"}, "`output_type` must be one of .* got 'jpg'"),
            ({"seed": -1}, "`seed` must be between 0 and"),
            ({"seed": 1.5}, "`seed` must be a whole number or a list of such, got 1.5"),
            ({"seed": [1, 2]}, r"`seed` must be one value or one per image \(1\), got 2 values"),
            ({"prompt": ["a", "b"]}, r"`prompt` must be one value or one per image \(1\), got 2 values"),
            ({"prompt": 5}, "`prompt` must be text or a list of such, got 5"),
            ({"seed": 1, "generator": torch.Generator()}, "`seed` and `generator` exclude each other"),
        ],
    )
    def test_bad_arguments_are_named(self, deterministic, arguments, message):
        with pytest.raises(ValueError, match=message):
            deterministic(random_photo(), **arguments)

    def test_empty_list(self, deterministic):
        with pytest.raises(ValueError, match="`image` must hold at least one image, got an empty list"):
            deterministic([])
