"""Shared fixtures: the embedded model, a Stable-Diffusion-shaped pipeline of real classes at tiny size, the demo."""

import os
import socket
import string
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import of huggingface_hub: no test may need a network
os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # before torch: see colorization.command_line.share_cores
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # several processes share the cores: make test
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from colorization import ColdDiffusionScheduler, ColorizationPipeline, load_pipeline, loading, save_adapter
from colorization.adapters import ADAPTER_NAME
from colorization.cli import main
from colorization.naming import NamingHead, usual_colors
from colorization.semantic import SemanticEncoder

if TYPE_CHECKING:
    from eval.studies.soak import Server

EXAMPLES = Path(__file__).parent.parent / "examples"
LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


def tiny_components(in_channels: int = 4) -> dict:
    """Components with the classes and the wiring of Stable Diffusion 2.1, in a few thousand parameters."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        use_linear_projection=True,
    )
    vae = AutoencoderKL(
        block_out_channels=[32, 64],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.18215,
    )
    text_config = CLIPTextConfig(
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=54,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    letters = [*string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase)]
    vocabulary = {token: i for i, token in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    return {
        "unet": unet.eval(),
        "vae": vae.eval(),
        "text_encoder": CLIPTextModel(text_config).eval(),
        "tokenizer": tokenizer,
    }


def tiny_pipeline(in_channels: int = 4, prediction_type: str = "velocity", noise_scale: float = 0.0, **defaults):
    """A colorization pipeline of tiny components; few steps and 32 x 32 pixels unless told otherwise."""
    scheduler = ColdDiffusionScheduler(prediction_type=prediction_type, noise_scale=noise_scale)
    settings = {"default_num_inference_steps": 2, "default_guidance_scale": 1.0, "resolution": 32} | defaults
    pipeline = ColorizationPipeline(**tiny_components(in_channels), scheduler=scheduler, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


ENCODER_WIDTH = 16


def tiny_encoder(**settings) -> SemanticEncoder:
    """Random weights; a smaller backbone of the same family of classes."""
    torch.manual_seed(3)
    encoder = SemanticEncoder(
        "tf_mobilenetv3_small_minimal_100", (ENCODER_WIDTH, ENCODER_WIDTH, ENCODER_WIDTH), **settings
    )
    torch.nn.init.normal_(encoder.chroma_head.weight, std=0.3)
    return encoder.eval()


def guessing_pipeline(**settings) -> ColorizationPipeline:
    settings = {"color_scale_space": "chroma", "default_negative_prompt": "", "guess_severity": 0.4} | settings
    pipeline = tiny_pipeline(in_channels=8, noise_scale=0.6)
    components = pipeline.components
    pipeline = ColorizationPipeline(
        **components | {"semantic_encoder": tiny_encoder()}, resolution=32, default_num_inference_steps=2, **settings
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def naming_head(pipeline: ColorizationPipeline, sure: bool = True) -> NamingHead:
    """A head for the pipeline's encoder that takes every photograph for a macaw, or knows nothing at all."""
    channels = pipeline.semantic_encoder.backbone.feature_info.channels()[-1]
    head = NamingHead(channels, 8, threshold=0.5).eval()
    torch.nn.init.zeros_(head.classifier.weight)
    torch.nn.init.zeros_(head.classifier.bias)
    if sure:
        macaw = [thing.name for thing in usual_colors()].index("macaw")
        head.classifier.bias.data[macaw] = 12.0
    return head


def naming_pipeline(sure: bool = True, **settings) -> ColorizationPipeline:
    """A pipeline that names what it sees; guided, so that prompts tell."""
    pipeline = guessing_pipeline(default_guidance_scale=2.0, prompted_guess_severity=0.8, **settings)
    pipeline.register_modules(naming_head=naming_head(pipeline, sure))
    return pipeline


def add_random_lora(pipeline: ColorizationPipeline, rank: int = 4, alpha: int = 8) -> None:
    """A LoRA whose B is not zero, so that it changes outputs; alpha differs from the rank on purpose."""
    torch.manual_seed(1)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=LORA_TARGETS, init_lora_weights=False)
    pipeline.unet.add_adapter(config, adapter_name=ADAPTER_NAME)


@pytest.fixture(scope="session")
def embedded() -> ColorizationPipeline:
    pipeline = load_pipeline(device="cpu")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def loaded_once(embedded, monkeypatch):
    """The shipped model is loaded once for all commands of this process."""
    load = loading.load_pipeline

    def load_or_reuse(model, **settings):
        shipped = model is None and settings == {"adapter": None, "device": "cpu"}
        return embedded if shipped else load(model, **settings)

    monkeypatch.setattr(loading, "load_pipeline", load_or_reuse)


def colorize(*arguments: str | Path) -> int:
    """Exit status of the command line in this process, with one step on the CPU."""
    try:
        return main([*map(str, arguments), "--steps", "1", "--device", "cpu"])
    except SystemExit as stop:
        return stop.code


def results(folder: Path) -> set[str]:
    """Files below a folder."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def pytest_addoption(parser) -> None:
    parser.addoption("--screenshots", metavar="DIR", help="where the browser tests leave their screenshots")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory) -> Path:
    """Gradio's folder for uploads and results."""
    folder = tmp_path_factory.mktemp("gradio")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def demo(embedded, demo_cache):
    import app

    demo = app.build_demo(embedded)
    yield demo
    demo.close(verbose=False)


@pytest.fixture(scope="session")
def demo_url(demo) -> str:
    """Address of the served demo."""
    from demo.page import QUEUE_SIZE, launch_options

    demo.queue(max_size=QUEUE_SIZE, api_open=False).launch(
        server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options()
    )
    return demo.local_url


@pytest.fixture(scope="session")
def stock_sd_folder(tmp_path_factory) -> Path:
    """A Stable Diffusion repository as it comes from the Hub: stock scheduler, no colorization settings."""
    folder = tmp_path_factory.mktemp("sd") / "tiny-stable-diffusion"
    pipeline = StableDiffusionPipeline(
        **tiny_components(),
        scheduler=PNDMScheduler(skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter_folder(tmp_path_factory) -> Path:
    """A colorization adapter for that repository."""
    folder = tmp_path_factory.mktemp("adapter") / "tiny-adapter"
    pipeline = tiny_pipeline(prediction_type="residual", default_negative_prompt="")
    add_random_lora(pipeline)
    save_adapter(pipeline, folder)
    return folder


@pytest.fixture(scope="session")
def example_files() -> list[Path]:
    return sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(scope="session")
def space_server(tmp_path_factory) -> Iterator["Server"]:
    """The demo, served from a folder that holds what is uploaded to a Space and nothing else."""
    from eval.studies.soak import serve
    from train.publish_space import ROOT, copy_space

    folder = tmp_path_factory.mktemp("space")
    copy_space(ROOT, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # the bytecode tells which files were imported
        with serve(tmp_path_factory.mktemp("server"), folder / "app.py") as server:
            yield server


def random_photo(width: int = 48, height: int = 32, seed: int = 0) -> Image.Image:
    """A smooth gray picture with some structure."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)
