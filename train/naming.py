"""Make the head that names what a gray photograph shows: ImageNet's classifier, fitted to the encoder's backbone.

  python -m train.naming --encoder runs/semantic/model --photos data/photos-mixed-144 --output runs/naming

The original network sees each training photograph in color and says what it is; the classifier learns to say the same
of the gray one, from the features of an encoder that may have been trained further. Then what it says of the
validation photographs is compared with what the original network says of them in color, with their labels, and with
their colors. The head is written to OUTPUT/model, the figures to OUTPUT/naming.json.
"""

import argparse
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import ImageNetInfo
from tqdm import tqdm

from colorization.batching import model_size, resize_to_tensor
from colorization.color_words import COLOR_WORDS, name_colors
from colorization.command_line import Parser, at_least
from colorization.image_io import as_photo
from colorization.naming import NamingHead, Sighting, see, usual_colors
from colorization.semantic import CELL, SemanticEncoder
from colorization.weights import load_network

from .backbone import NAME, imagenet_weights
from .saving import save_component
from .sources import UnreadablePhoto, load_source, read_photo

_AREA = 256  # square root of the pixels that the encoder sees
_BATCH = 64  # photographs of a step of the fit; their features are in memory
_HELD_OUT = 10  # one of so many training photographs chooses the epoch
_VISIBLE = 0.1  # share of a photograph's pixels from which on a color is taken to be in it
_ACHROMATIC = ("black", "white", "gray")
_THRESHOLDS = (0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, eq=False)
class Looks:
    """What both networks make of some photographs, which are in memory no longer.

    Args:
        pooled: the head's features of the gray photographs, `(n, width)`.
        named: probabilities that the original network gives the colored ones, `(n, classes)`.
        shares: share of each of `COLOR_WORDS` in their pixels, `(n, words)`.
        labels: "" where there is none.
    """

    pooled: torch.Tensor
    named: torch.Tensor
    shares: np.ndarray
    labels: list[str]


def imagenet_head(weights: dict[str, torch.Tensor], epsilon: float = 1e-3) -> NamingHead:
    """The head of timm's network with its batch normalisation, whose epsilon is TensorFlow's, inside the convolution.

    Args:
        weights: of :func:`train.backbone.imagenet_weights`.
        epsilon: of the normalisation.
    """
    conv, scale = weights["conv_head.weight"], weights["bn2.weight"] / (weights["bn2.running_var"] + epsilon).sqrt()
    classifier = weights["classifier.weight"]
    head = NamingHead(conv.shape[1], conv.shape[0], classifier.shape[0])
    head.load_state_dict(
        {
            "conv.weight": conv * scale[:, None, None, None],
            "conv.bias": weights["bn2.bias"] - weights["bn2.running_mean"] * scale,
            "classifier.weight": classifier,
            "classifier.bias": weights["classifier.bias"],
        }
    )
    return head.eval()


def first_head(folder: str | None) -> NamingHead:
    """The head in a folder, such as one that was trained together with the encoder, or ImageNet's classifier."""
    if folder is None:
        return imagenet_head(imagenet_weights())
    return load_network(NamingHead, folder, torch_dtype=torch.float32).eval()


def photographs(source: str, split: str, count: int) -> Iterator[tuple[Image.Image, str]]:
    """About `count` photographs of a split with their labels, evenly spread over it."""
    rows = load_source(source)[split]
    features = rows.features.get("label")
    for row in range(0, len(rows), max(len(rows) // count, 1)):
        found = rows[row]
        label = found.get("label")
        name = features.int2str(label) if hasattr(features, "int2str") and label is not None else label
        try:
            image = read_photo(found["image"], f"{source} {row}")[1]
        except UnreadablePhoto as error:
            tqdm.write(f"failed: {error}", file=sys.stderr)
            continue
        yield image, str(name or "").lower().replace("_", " ")


@torch.no_grad()
def look(source: str, split: str, count: int, encoder: SemanticEncoder, head: NamingHead) -> Looks:
    """Show photographs to both networks, one by one: their sizes differ."""
    original = timm.create_model(NAME, pretrained=False)
    original.load_state_dict(imagenet_weights(), strict=False)
    original.eval()
    pooled, named, shares, labels = [], [], [], []
    for image, label in tqdm(photographs(source, split, count), desc=f"look at {split}", unit="photo"):
        photo = as_photo(image, keep_color=True)
        size = model_size(*photo.size, _AREA, CELL)
        gray, color = (resize_to_tensor(pixels, size)[None] / 2 + 0.5 for pixels in (photo.luma, photo.rgb))
        pooled.append(head.pool(encoder.stages(gray[:, :1])[-1])[0].half())
        named.append(original((255 * color - 127) / 128)[0].softmax(dim=0).half())
        small = Image.fromarray(photo.rgb).resize((48, 48), Image.Resampling.BOX)
        counts = np.bincount(name_colors(np.asarray(small)).ravel(), minlength=len(COLOR_WORDS))
        shares.append(counts / counts.sum())
        labels.append(label)
    return Looks(torch.stack(pooled).float(), torch.stack(named).float(), np.array(shares), labels)


def fit(head: NamingHead, looks: Looks, epochs: int, rate: float = 1e-4) -> list[float]:
    """Teach the classifier the original network's probabilities; in place.

    Returns:
        Mean cross-entropy of the photographs that are held out, before and after each epoch; the weights are those of
        the best one.
    """
    held_out = torch.arange(len(looks.pooled)) % _HELD_OUT == 0
    learned = (~held_out).nonzero()[:, 0]
    classifier, generator = head.classifier, torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=rate, weight_decay=0)

    def error(rows: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(classifier(looks.pooled[rows]), looks.named[rows])

    with torch.no_grad():
        errors, best = [error(held_out).item()], copy.deepcopy(classifier.state_dict())
    for _ in range(epochs):
        for rows in learned[torch.randperm(len(learned), generator=generator)].split(_BATCH):
            optimizer.zero_grad()
            error(rows).backward()
            optimizer.step()
        with torch.no_grad():
            errors.append(error(held_out).item())
        if errors[-1] == min(errors):
            best = copy.deepcopy(classifier.state_dict())
    classifier.load_state_dict(best)
    return errors


def calibrate(head: NamingHead, looks: Looks) -> float:
    """Divide the logits by the temperature at which they fit the original network's probabilities best; in place."""
    with torch.no_grad():
        logits = head.classifier(looks.pooled)
        errors = {
            temperature: F.cross_entropy(logits / temperature, looks.named).item()
            for temperature in np.linspace(0.3, 3, 28).round(2).tolist()
        }
        temperature = min(errors, key=errors.get)
        for parameter in head.classifier.parameters():
            parameter /= temperature
    return temperature


def label_classes(label: str, info: ImageNetInfo) -> set[int]:
    """Classes that a label names: by one of WordNet's words, or by our table's name or kind; mostly none."""
    things = usual_colors()
    return {
        index
        for index, thing in enumerate(things)
        if label in (thing.name, thing.kind)
        or label in info.index_to_description(index, detailed=False).lower().split(", ")
    }


def _share(shares: np.ndarray, color: str) -> float:
    """Of the pixels in a color; black, white and gray count as one, since the gray photograph tells them apart."""
    words = _ACHROMATIC if color in _ACHROMATIC else (color,)
    return sum(shares[COLOR_WORDS.index(word)] for word in words)


@dataclass(frozen=True)
class Verdict:
    """One sighting, judged.

    Args:
        sighting: what is said.
        agreed: probability that the original network, which saw the colors, gives the kind.
        labeled: whether the label says the same; None where it names no class.
        colored: whether one of the usual colors that are said is in the photograph; None where none is said.
    """

    sighting: Sighting
    agreed: float
    labeled: bool | None
    colored: bool | None


def judge(head: NamingHead, looks: Looks) -> list[Verdict | None]:
    """What is said of each photograph when there is no threshold; None where something unsayable is likelier."""
    things, info = usual_colors(), ImageNetInfo()
    members: dict[str, set[int]] = {}
    for index, thing in enumerate(things):
        for word in (thing.name, thing.kind) if thing.say else ():
            members.setdefault(word, set()).add(index)
    known = {label: label_classes(label, info) for label in set(looks.labels)}
    with torch.no_grad():
        probabilities = head.classifier(looks.pooled).softmax(dim=1).tolist()
    verdicts = []
    for row, shares, label, named in zip(probabilities, looks.shares, looks.labels, looks.named, strict=True):
        sighting = see(row, 0)
        if sighting is None:
            verdicts.append(None)
            continue
        classes = members[sighting.name]
        kin = {index for index in range(len(things)) if things[index].kind in {things[k].kind for k in classes}}
        colored = any(_share(shares, color) >= _VISIBLE for color in sighting.colors)
        verdicts.append(
            Verdict(
                sighting,
                named[sorted(kin)].sum().item(),
                bool(known[label] & kin) if known[label] else None,
                colored if sighting.colors else None,
            )
        )
    return verdicts


def table(verdicts: Sequence[Verdict | None]) -> list[dict]:
    """For each threshold: what part of the photographs anything is said of, and how often that is right.

    "agreed" is the mean probability that the original network gives the same kind of the colored photograph.
    """

    def mean(values: list) -> float | None:
        return round(float(np.mean(values)), 4) if values else None

    rows = []
    for threshold in _THRESHOLDS:
        said = [verdict for verdict in verdicts if verdict is not None and verdict.sighting.probability >= threshold]
        labeled = [verdict.labeled for verdict in said if verdict.labeled is not None]
        colored = [verdict.colored for verdict in said if verdict.colored is not None]
        rows.append(
            {
                "threshold": threshold,
                "said": len(said),
                "share": round(len(said) / len(verdicts), 4),
                "agreed": mean([verdict.agreed for verdict in said]),
                "label_right": mean(labeled),
                "labeled": len(labeled),
                "color_present": mean(colored),
            }
        )
    return rows


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m train.naming",
        description="Fit and judge the head that names what a gray photograph shows.",
        epilog="exit status: 0 written, 2 bad arguments or missing packages",
    )
    parser.add_argument("--encoder", required=True, metavar="DIR", help="a trained semantic encoder")
    parser.add_argument("--photos", required=True, metavar="SOURCE", help="with the splits train and validation")
    parser.add_argument("--head", metavar="DIR", help="head to go on from (default: ImageNet's classifier)")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--count", type=at_least(_HELD_OUT), default=6000, metavar="N", help="photographs to learn from"
    )
    parser.add_argument(
        "--judged", type=at_least(1), default=10**6, metavar="N", help="validation photographs at most"
    )
    parser.add_argument("--epochs", type=at_least(0), default=8, metavar="N", help="0 fits the temperature alone")
    parser.add_argument("--threshold", type=at_least(0, float), default=0.4, metavar="P", help="stored with the head")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        encoder = load_network(SemanticEncoder, arguments.encoder, torch_dtype=torch.float32).eval()
        head = first_head(arguments.head)
        training = look(arguments.photos, "train", arguments.count, encoder, head)
        judged = look(arguments.photos, "validation", arguments.judged, encoder, head)
    except (ImportError, OSError, ValueError) as error:
        parser.error(" ".join(str(error).split()))
    report = {"learned_from": len(training.labels), "judged": len(judged.labels), "before": table(judge(head, judged))}
    report["cross_entropy"] = [round(error, 4) for error in fit(head, training, arguments.epochs)]
    report["temperature"] = calibrate(head, training)
    report["threshold"], report["after"] = arguments.threshold, table(judge(head, judged))
    head.register_to_config(threshold=arguments.threshold)
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_component(head, arguments.output / "model")
    (arguments.output / "naming.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for row in report["after"]:
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
