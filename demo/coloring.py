"""The Color tab's work: sample once, then render at any color scale, as any variant, in any format."""

from collections.abc import Callable
from dataclasses import replace

import gradio as gr

from colorization.jobs import AUTO

from .engine import Engine
from .hint_panel import read_lines
from .messages import problems_on_page
from .prompt_box import seen_values
from .rendering import (
    own_color_scale,
    read_photo,
    rendered_settings,
    write_after,
    write_before,
    write_download,
    write_thumbnails,
)
from .settings import require
from .snippet import python_code
from .visits import Result, Visit, Visits

Pictures = tuple[str, str]
_NOT_IN_BROWSERS = ("tiff", "ppm")


class Color:
    """The handlers for the models of an engine."""

    def __init__(self, engine: Engine, visits: Visits):
        self._engine, self._visits = engine, visits

    def colorize(
        self,
        image: str | None,
        prompt: str,
        negative_prompt: str,
        steps: int,
        guidance_scale: float,
        color_scale: float,
        seed: int | None,
        variants: int,
        file_format: str,
        model: str,
        hints: str,
        auto_color_scale: bool,
        auto_prompt: bool,
        request: gr.Request,
    ) -> tuple[Pictures, str]:
        """Color a photograph. Its luminance, size, bit depth and transparency are kept; colors it has are ignored.

        Args:
            image: JPEG, PNG, WebP, TIFF, BMP, GIF or AVIF file of up to 100 megapixels.
            prompt: what is in the picture and its colors, e.g. "red bus"; empty: the model decides.
            negative_prompt: what to steer away from; acts only at a guidance scale above 1.
            steps: 1 to 100; more are slower. 0 is the first guess of models that make one, without prompt.
            guidance_scale: 1 (off) to 15, how strongly the prompt acts; above 1 takes twice as long.
            color_scale: 0 (gray) to 3, color intensity; 1 is as predicted.
            seed: 0 or more; the same seed and settings give the same colors.
            variants: 1 to 4; the page shows them all, this answer holds the first. Variant k has the seed + k.
            file_format: "PNG" (lossless) or "JPEG".
            model: one of the models that the server has loaded.
            hints: colors of single places, one a line: x,y,#rrggbb with pixels counted from 0 at the top left.
            auto_color_scale: have the model choose a color scale for this photograph, in place of color_scale.
            auto_prompt: without a prompt, color what the model is sure to see as such things are; the metadata tell.

        Returns:
            The gray and the colored picture, at most 4096 pixels wide or high, and the file at full size.
        """
        if image is None:
            raise gr.Error("Choose a photograph first.", print_exception=False)
        visit = self._visits.of(request, [image])
        image = visit.originals.get(image, image)
        with problems_on_page(image), self._engine.request(visit.visitor) as run:
            require(
                prompt=prompt,
                negative_prompt=negative_prompt,
                steps=steps,
                guidance_scale=guidance_scale,
                color_scale=color_scale,
                variants=variants,
                file_format=file_format,
                model=model,
                hints=hints,
            )
            photo, placed = read_photo(image), read_lines(hints)
            # not every model knows these
            optional = ({"hints": placed} if placed else {}) | ({"color_scale": AUTO} if auto_color_scale else {})
            predictions = self._engine.sample(
                run,
                model,
                photo,
                prompt=prompt,
                negative_prompt=negative_prompt,
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                seed=seed,
                auto_prompt=auto_prompt,
                num_images_per_prompt=variants,
                **optional,
            )
            color_scale = own_color_scale(predictions[0], color_scale)
            before = write_before(visit, photo)
            after = write_after(visit, photo, predictions[0], color_scale)
            download = write_download(visit, photo, predictions[0], color_scale, file_format)
        visit.result = Result(image, before, predictions)
        return (before, after), download

    def show_input(self, image: str | None, request: gr.Request) -> tuple:
        """The chosen photograph in gray, in place of the last result: image, pictures, gallery, download, code."""
        nothing = gr.Gallery(value=None, visible=False), gr.DownloadButton(value=None, interactive=False), ""
        visit = self._visits.of(request, [] if image is None else [image])
        original = visit.originals.get(image, image)
        if visit.result is not None and visit.result.path == original:
            return tuple(gr.skip() for _ in range(5))  # the button was faster than this
        visit.result = None
        if image is None:
            return gr.skip(), None, *nothing
        with problems_on_page(image):
            photo = read_photo(original)
            before = write_before(visit, photo)
        shown = gr.skip()
        if photo.format in _NOT_IN_BROWSERS and original == image:
            shown = write_before(visit, photo, kind="shown")
            visit.originals = {shown: original}
        return shown, (before, before), *nothing

    def keep(self, files: list[str] | str | None, request: gr.Request) -> None:
        """Remember uploads, so that they are deleted when the visitor leaves."""
        self._visits.of(request, [files] if isinstance(files, str) else files or [])

    def present(self, color_scale: float, file_format: str, request: gr.Request) -> tuple:
        """What the page shows of a new result besides the pictures: gallery, download, code, color scale."""

        def show(visit: Visit, result: Result) -> tuple:
            scale = own_color_scale(result.prediction, color_scale)
            download = gr.DownloadButton(interactive=True)
            return self._gallery(visit, result, color_scale), download, self._code(result, scale, file_format), scale

        return self._with_result(request, show, count=4)

    def tell(self, request: gr.Request) -> list:
        """What was seen in the photograph and understood of the prompt; nothing where there is no result yet."""
        result = self._visits.of(request).result
        return seen_values(None if result is None else result.prediction.settings)

    def rescale(self, color_scale: float, request: gr.Request) -> tuple[Pictures, gr.DownloadButton]:
        """The last result at another color scale, without sampling; its file follows, see `save`."""

        def render(visit: Visit, result: Result) -> tuple:
            after = write_after(visit, read_photo(result.path), result.prediction, color_scale)
            return (result.before, after), gr.DownloadButton(interactive=False)

        return self._with_result(request, render, count=2)

    def choose(self, event: gr.SelectData, color_scale: float, request: gr.Request) -> tuple:
        """Take another variant, with the color scale chosen for it if one was: as `rescale`, and the color scale."""
        visit = self._visits.of(request)
        if visit.result is not None and 0 <= event.index < len(visit.result.predictions):
            visit.result = replace(visit.result, chosen=event.index)
            color_scale = own_color_scale(visit.result.prediction, color_scale)
        return *self.rescale(color_scale, request), color_scale

    def save(self, color_scale: float, file_format: str, request: gr.Request) -> tuple:
        """What is on the page as a file of full size, and as Python: download, code."""

        def write(visit: Visit, result: Result) -> tuple:
            path = write_download(visit, read_photo(result.path), result.prediction, color_scale, file_format)
            return gr.DownloadButton(value=path, interactive=True), self._code(result, color_scale, file_format)

        return self._with_result(request, write, count=2)

    def cancel(self, request: gr.Request) -> None:
        """Stop what runs for this visitor."""
        self._engine.cancel(self._visits.of(request).visitor)

    def leave(self, request: gr.Request) -> None:
        """The visitor has closed the page."""
        self._engine.cancel(self._visits.end(request))

    def _with_result(self, request: gr.Request, render: Callable[[Visit, Result], tuple], count: int) -> tuple:
        """What `render` makes of the visit's last result, or nothing new while there is none."""
        visit = self._visits.of(request)
        if visit.result is None:
            return tuple(gr.skip() for _ in range(count))
        with problems_on_page(visit.result.path):
            return render(visit, visit.result)

    def _gallery(self, visit: Visit, result: Result, color_scale: float) -> gr.Gallery:
        if len(result.predictions) == 1:
            return gr.Gallery(value=None, visible=False)
        scales = [own_color_scale(prediction, color_scale) for prediction in result.predictions]
        paths = write_thumbnails(visit, "variants", read_photo(result.path), result.predictions, scales)
        captions = [f"seed {prediction.settings['seed']}" for prediction in result.predictions]
        return gr.Gallery(value=list(zip(paths, captions, strict=True)), visible=True, selected_index=result.chosen)

    def _code(self, result: Result, color_scale: float, file_format: str) -> str:
        return python_code(
            rendered_settings(result.prediction, color_scale), read_photo(result.path).name, file_format
        )
