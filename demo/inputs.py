"""Upload components that hand over the very file, opened by nobody before `colorization.image_io` looks at it."""

import base64
import binascii
import secrets
from pathlib import Path
from urllib.parse import unquote

import gradio as gr
from gradio.data_classes import ImageData
from gradio.route_utils import API_PREFIX
from gradio.utils import is_in_or_equal
from gradio_client.utils import is_http_url_like

MAX_FILE_BYTES = 200_000_000


class _LocalOnly:
    """Mixin of components that take uploads but open no links: the server fetches nothing for strangers."""

    page_component: str  # gradio's name of the component in the browser

    def get_block_name(self) -> str:
        return self.page_component

    def get_block_class(self) -> str:
        return self.page_component

    async def async_move_resource_to_block_cache(self, url_or_file_path):
        if is_http_url_like(str(url_or_file_path)):
            url_or_file_path = self._uploaded(str(url_or_file_path))
        return await super().async_move_resource_to_block_cache(url_or_file_path)

    def _uploaded(self, link: str) -> str:
        """File behind a link to an upload: agents upload first, and then name what they got in return."""
        path = unquote(link.partition(f"{API_PREFIX}/file=")[2])
        if not path or not is_in_or_equal(path, self.GRADIO_CACHE) or not Path(path).is_file():
            raise gr.Error("Links are not opened: upload the file itself.", print_exception=False)
        return path


class PhotoInput(_LocalOnly, gr.Image):
    """gr.Image for files of any kind: gradio's own refuses what Pillow cannot open, and converts some modes."""

    page_component = "image"

    def preprocess(self, payload: ImageData | None) -> str | None:
        """Path of the upload."""
        if payload is None:
            return None
        if payload.url and payload.url.startswith("data:"):
            return self._decoded(payload.url)
        return payload.path

    def _decoded(self, url: str) -> str:
        """File with the content of a data URL, as agents send it."""
        if len(url) > MAX_FILE_BYTES * 4 // 3 + 100:
            raise gr.Error(f"The photograph is larger than {MAX_FILE_BYTES // 10**6} MB.", print_exception=False)
        try:
            content = base64.b64decode(url.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise gr.Error("The photograph is no valid base64.", print_exception=False) from error
        path = Path(self.GRADIO_CACHE, secrets.token_hex(16), "photograph")
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        self.temp_files.add(str(path))
        return str(path)


class Slider(gr.Slider):
    """gr.Slider for programs too: gradio's own compares null with numbers and fails."""

    def get_block_name(self) -> str:
        return "slider"

    def get_block_class(self) -> str:
        return "slider"

    def preprocess(self, payload: float | None) -> float | None:
        """The number, None for null."""
        return None if payload is None else super().preprocess(payload)


class PhotoFiles(_LocalOnly, gr.File):
    """gr.File for several files, without the empty temporary file that gradio leaves behind for each."""

    page_component = "file"

    def _process_single_file(self, f) -> str:
        return f.path
