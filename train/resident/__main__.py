"""`python -m train.resident`: the small model's encoder, UNet and text encoder, all photographs on the device."""

import argparse
import sys
from pathlib import Path

import torch

from colorization import ColorizationPipeline, load_pipeline
from colorization.adapters import widen_conv_in
from colorization.color import luma
from colorization.command_line import Parser, at_least
from colorization.errors import one_line
from colorization.loading import default_device
from colorization.semantic import SemanticEncoder

from ..backbone import imagenet_weights
from ..embedded import save_model
from ..loop import device_name, versions, write_summary
from ..semantic import measure_statistics
from .course import Clock
from .encoder import EncoderSettings, Mixture, Namer, train_encoder
from .photos import load_shelf
from .walks import WalkSettings, train_walks

_DECODER = {"widths": (96, 192, 256), "depth": 3}
_EXAMPLES = """examples:
  python -m train.resident --photos data/photos-mixed data/tiny --weights 3 1 --sides 176 64 --output runs/resident
  python -m train.resident --photos data/photos --seconds 600 --encoder-seconds 0 --start runs/resident/model ...

All photographs stay on the device, as bytes and as latents: about 0.8 MB each with three variants. The time of a
training is what its learning rate follows, so a run ends when it should, however fast the device is.
exit status: 0 trained, 1 the loss was not finite, 2 bad arguments"""


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m train.resident",
        description="Train the small model's encoder, then its UNet and text encoder, each for a given time.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--photos", required=True, nargs="+", type=Path, metavar="DIR", help="folders with train-*.parquet files")
    add("--weights", nargs="+", type=at_least(0, float), metavar="X", help="share of each folder (default: all alike)")
    add("--sides", nargs="+", type=at_least(8), metavar="N", help="longest side kept of each folder's (default: 176)")
    add("--variants", nargs="+", type=at_least(1), metavar="N", help="versions of each folder's (default: 3)")
    add("--held-out", type=Path, metavar="FILE", help="parquet file to measure the encoder on")
    add("--start", default="embedded", metavar="ID_OR_DIR", help='model to go on from (default: "embedded")')
    add("--output", required=True, type=Path, metavar="DIR", help="folder of the run; the model is in DIR/model")
    add(
        "--encoder-seconds",
        type=at_least(0, float),
        default=240,
        metavar="S",
        help="training of a new encoder; 0 keeps the one that the model has (default: 240)",
    )
    add("--seconds", type=at_least(1, float), default=340, metavar="S", help="of UNet and text encoder (default: 340)")
    add("--batch-size", type=at_least(1), default=512, metavar="N", help="samples of a step (default: 512)")
    add("--compile", action="store_true", help="compile the UNet: two minutes, then half as fast again on a GPU")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of everything random (default: 0)")
    return parser


def read_photos(arguments: argparse.Namespace, device: torch.device) -> Mixture:
    """The photographs of the command line; ValueError names what does not fit."""
    count = len(arguments.photos)

    def each(name: str, default: float) -> list:
        values = getattr(arguments, name) or [default] * count
        if len(values) != count:
            raise ValueError(f"argument --{name}: must have one value for each of {count} folders, got {len(values)}")
        return values

    weights, sides = each("weights", 1.0), each("sides", 176)
    if not sum(weights) > 0:
        raise ValueError(f"argument --weights: one must be above 0, got {weights}")
    shelves = []
    for folder, side in zip(arguments.photos, sides, strict=True):
        files = sorted(folder.glob("**/train-*.parquet"))
        if not files:
            raise ValueError(f"argument --photos: {folder} holds no train-*.parquet")
        shelves.append(load_shelf(files, side, device))
    return Mixture(shelves, [weight / sum(weights) for weight in weights])


def new_encoder(
    photos: Mixture, arguments: argparse.Namespace, device: torch.device, settings: EncoderSettings
) -> tuple[SemanticEncoder, Namer, dict]:
    """A trained encoder, what names on its features, and the summary."""
    weights = imagenet_weights()
    torch.manual_seed(arguments.seed)
    encoder = SemanticEncoder(**_DECODER).to(device)
    encoder.backbone.load_state_dict(weights, strict=False)  # without the classifier
    generator = torch.Generator(device).manual_seed(arguments.seed)
    measure_statistics(encoder, (luma(photos.cut(128, settings.side, generator)) for _ in range(16)))
    namer = Namer(weights).to(device)
    held_out = None if arguments.held_out is None else load_shelf([arguments.held_out], 176, device)
    clock = Clock(arguments.encoder_seconds)
    return encoder, namer, train_encoder(encoder, namer, photos, settings, clock, held_out, arguments.seed)


def prepare(pipeline: ColorizationPipeline, noise_scale: float) -> None:
    """Let the UNet see the first guess and the walk begin there."""
    if pipeline.semantic_encoder is None:
        raise ValueError("argument --encoder-seconds: must be above 0, for the model to go on from has no encoder")
    if pipeline.scheduler.config.noise_scale != noise_scale:
        raise ValueError(f"argument --start: its noise_scale must be {noise_scale}")
    if not pipeline.sees_guess:
        channels = 3 * pipeline.vae.config.latent_channels + pipeline.semantic_encoder.config.widths[0]
        widen_conv_in(pipeline.unet, channels)
    pipeline.register_to_config(walk_from="guess", guess_severity=1.0, prompted_guess_severity=1.0)
    pipeline.check_model()


def train(arguments: argparse.Namespace) -> Path:
    """What the command does; returns the folder of the model."""
    device = default_device()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    photos = read_photos(arguments, device)
    pipeline = load_pipeline(arguments.start, device=device, dtype=torch.float32)
    summary = {"device": device_name(device), "versions": versions()}
    if arguments.encoder_seconds > 0:
        side = pipeline.config.resolution * 8 // pipeline.vae_scale_factor
        encoder, namer, summary["encoder"] = new_encoder(photos, arguments, device, EncoderSettings(side=side))
        pipeline.register_modules(semantic_encoder=encoder, naming_head=namer.head)
    settings = WalkSettings(batch_size=arguments.batch_size)
    prepare(pipeline, settings.noise_scale)
    for network in (pipeline.unet, pipeline.vae, pipeline.semantic_encoder):
        network.to(memory_format=torch.channels_last)
    if arguments.compile:
        pipeline.unet.compile(dynamic=False)
    variants = arguments.variants or [3] * len(photos.shelves)
    clock = Clock(arguments.seconds)
    summary["walks"] = train_walks(pipeline, photos, variants, settings, clock, arguments.seed)
    save_model(pipeline, arguments.output / "model")
    write_summary(arguments.output, summary)
    return arguments.output / "model"


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        print(f"saved {train(arguments)}")
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError, ImportError) as error:
        parser.error(one_line(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
