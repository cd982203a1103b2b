"""Photographs as bytes on the device, and training pictures that are cut from them there.

Nothing is read, decoded or copied during the training: on an accelerator the loader is what a small model waits for.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image

from ..transforms import MAX_ZOOM

_READ_AT_ONCE = 2048  # photographs decoded side by side


@dataclass(frozen=True, eq=False)
class Shelf:
    """Photographs of one data set.

    Args:
        pixels: `(photographs, 3, side, side)` uint8; each lies at the top left, its borders repeated to the end.
        sizes: height and width of each, `(photographs, 2)` float32.
        captions: of each photograph in all its forms; may be empty.
    """

    pixels: torch.Tensor
    sizes: torch.Tensor
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.pixels)

    def cut(self, rows: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
        """Random squares of photographs, half of them mirrored.

        Args:
            rows: numbers of the photographs, `(batch,)`.
            side: of the squares in pixels; they are enlarged or reduced to it.
            generator: of the places.

        Returns:
            `(batch, 3, side, side)` float32 in [0, 1].
        """
        device, stored = self.pixels.device, self.pixels.shape[-1]
        zoom, down, across, mirror = torch.rand(4, len(rows), device=device, generator=generator)
        sizes = self.sizes[rows]
        length = sizes.amin(dim=1) / (1 + zoom * (MAX_ZOOM - 1))
        top, left = (sizes - length[:, None]).unbind(dim=1)
        direction = torch.where(mirror < 0.5, -1.0, 1.0)
        # Centers of the output's pixels, as offsets from the square's center in shares of its side.
        axis = (torch.arange(side, device=device) + 0.5) / side - 0.5
        y = (down * top + length / 2)[:, None] + length[:, None] * axis
        x = (across * left + length / 2)[:, None] + (direction * length)[:, None] * axis
        grid = torch.stack([x[:, None].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=-1)
        pixels = self.pixels[rows].float() / 255
        # Bicubic interpolation overshoots at edges.
        return F.grid_sample(pixels, 2 * grid / stored - 1, "bicubic", "border", align_corners=False).clamp(0, 1)


def load_shelf(files: Sequence[Path], side: int, device: torch.device) -> Shelf:
    """Read photographs from parquet files with the columns `image` and, for prompts, `captions`.

    Args:
        files: read in this order.
        side: that the longer side of a photograph may have; larger ones are reduced.
        device: where they are kept: `3 * side**2` bytes each.
    """
    pixels, sizes, captions = [], [], []
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside of Python's lock
        for file in files:
            parquet = pq.ParquetFile(file)
            columns = [name for name in ("image", "captions") if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(_READ_AT_ONCE, columns=columns):
                rows = batch.to_pylist()
                decoded = list(pool.map(lambda row: _decode(row["image"]["bytes"], side), rows))
                pixels.append(torch.from_numpy(np.stack([padded for padded, _ in decoded])).to(device))
                sizes += [size for _, size in decoded]
                captions += [row.get("captions") or [] for row in rows]
    return Shelf(torch.cat(pixels), torch.tensor(sizes, dtype=torch.float32, device=device), captions)


def _decode(data: bytes, side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """A photograph `(3, side, side)` uint8, padded by its borders, and its height and width."""
    with Image.open(io.BytesIO(data)) as image:
        photo = image.convert("RGB")
    photo.thumbnail((side, side), Image.Resampling.LANCZOS)
    planes = np.asarray(photo).transpose(2, 0, 1)
    height, width = planes.shape[1:]
    return np.pad(planes, ((0, 0), (0, side - height), (0, side - width)), mode="edge"), (height, width)
