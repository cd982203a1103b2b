"""The data set's README.md for the Hub."""

from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData, HfApi

from ..sources import Source, is_local
from .rows import Captions

_TEMPLATE = Path(__file__).parent.parent / "templates" / "dataset_card.md"


def write_card(
    path: Path, report: dict, pictures: list[dict], captions: Captions, repository: str, hub_source: bool
) -> None:
    """The data set's README.md, whose front matter also says which file belongs to which split."""
    kept = {name: counts["kept"] for name, counts in report["splits"].items() if counts["kept"]}
    # `load_dataset` keeps what it read by the front matter: the sizes tell it that a folder was built anew.
    sizes = {name: sum(file.stat().st_size for file in path.parent.glob(f"data/{name}-*.parquet")) for name in kept}
    data = DatasetCardData(
        license=report["license"],
        task_categories=["image-to-image", "text-to-image"],
        tags=["colorization"],
        dataset_info={
            "splits": [{"name": name, "num_bytes": sizes[name], "num_examples": kept[name]} for name in kept],
            "download_size": sum(sizes.values()),
            "dataset_size": sum(sizes.values()),
        },
        source_datasets=[report["source"]] if hub_source else None,
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in kept],
            }
        ],
    )
    card = DatasetCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        **{**report, "pictures": pictures, "caption_text": captions.description, "repository": repository},
    )
    path.write_text(str(card), encoding="utf-8")


def license_of(source: str, splits: Source) -> str:
    """The license that a source on the Hub states; "unknown" if it states none or is local."""
    if is_local(source):
        return "unknown"
    stated = next(iter(splits.values())).info.license
    if not stated:
        try:
            stated = getattr(HfApi().dataset_info(source).card_data, "license", None)
        except (OSError, ValueError):
            stated = None
    return (stated[0] if isinstance(stated, list) else stated) or "unknown"
