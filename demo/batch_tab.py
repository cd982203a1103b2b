"""The Batch tab: many files in, one archive out."""

import os
import tempfile
from pathlib import Path

import gradio as gr

from colorization.files import Task
from colorization.jobs import AUTO

from .archive import MAX_BYTES, MAX_FILES, Batch, BatchError, BatchReport, collect, pack, unused_name
from .coloring import Color
from .engine import Engine
from .events import MODEL, PRIVATE
from .inputs import PhotoFiles
from .messages import problems_on_page
from .rendering import SUFFIXES
from .settings import Controls, inputs_of, require
from .visits import Visits

_FILES_AT_ONCE = 16  # between these others may have their turn, and the size of the results is checked


class BatchHandler:
    """The handler for the models of an engine."""

    def __init__(self, engine: Engine, visits: Visits):
        self._engine, self._visits = engine, visits

    def colorize_batch(
        self,
        files: list[str] | None,
        prompt: str,
        negative_prompt: str,
        steps: int,
        guidance_scale: float,
        color_scale: float,
        seed: int | None,
        file_format: str,
        model: str,
        auto_color_scale: bool,
        auto_prompt: bool,
        request: gr.Request,
    ) -> tuple[str | None, str]:
        """Color many photographs with the same settings; files that cannot be used are listed, the rest is done.

        Args:
            files: photographs, or zip archives of photographs; at most 100, and 1 GB when unpacked.
            prompt: what is in all the pictures and its colors; empty: the model decides.
            negative_prompt: what to steer away from; acts only at a guidance scale above 1.
            steps: 1 to 100; more are slower. 0 is the first guess of models that make one, without prompt.
            guidance_scale: 1 (off) to 15, how strongly the prompt acts; above 1 takes twice as long.
            color_scale: 0 (gray) to 3, color intensity; 1 is as predicted.
            seed: 0 or more; the same seed and settings give the same colors.
            file_format: "PNG" (lossless) or "JPEG".
            model: one of the models that the server has loaded.
            auto_color_scale: have the model choose a color scale for each photograph, in place of color_scale.
            auto_prompt: without a prompt, color what the model is sure to see as such things are; the metadata tell.

        Returns:
            A zip archive with the colored photographs, and what became of each file that failed.
        """
        if not files:
            raise gr.Error("Choose some photographs or a zip archive first.", print_exception=False)
        visit = self._visits.of(request, files)
        visit.folder.mkdir(parents=True, exist_ok=True)
        with (
            problems_on_page(),
            self._engine.request(visit.visitor) as run,
            tempfile.TemporaryDirectory(dir=visit.folder) as name,
        ):
            require(
                prompt=prompt,
                negative_prompt=negative_prompt,
                steps=steps,
                guidance_scale=guidance_scale,
                color_scale=color_scale,
                file_format=file_format,
                model=model,
            )
            folder = Path(name)
            try:
                batch = collect(files, folder)
            except BatchError as error:
                raise gr.Error(str(error), print_exception=False) from error
            targets = _targets(batch, folder, SUFFIXES[file_format])
            report = self._color(
                run,
                model,
                [Task(batch.files[name], target) for name, target in targets.items()],
                prompt=prompt,
                negative_prompt=negative_prompt,
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                color_scale=AUTO if auto_color_scale else color_scale,
                seed=seed,
                auto_prompt=auto_prompt,
            )
            names = {str(path): name for name, path in batch.files.items()}
            problems = batch.problems + [(names[source], reason) for source, reason in report.failed]
            done: dict[str, Path] = {}
            for name, target in targets.items():
                if target.exists():  # a.jpg and a.png give results of the same name
                    done[unused_name(f"{os.path.splitext(name)[0]}-colorized{target.suffix}", done)] = target
            archive = None
            if done:
                archive = visit.new_file("archive", "colorized.zip")
                pack(done, archive)
        return archive, _summary(report.done, problems)

    def _color(self, run: str, model: str, tasks: list[Task], **settings) -> BatchReport:
        report, written = BatchReport(total=len(tasks)), 0
        for start in range(0, len(tasks), _FILES_AT_ONCE):
            some = tasks[start : start + _FILES_AT_ONCE]
            if written > MAX_BYTES:
                for task in some:
                    report.fail(task.source, f"not done, the results exceed {MAX_BYTES >> 30} GB already")
                continue
            report = self._engine.color_files(run, model, some, report, **settings)
            written += sum(task.target.stat().st_size for task in some if task.target.exists())
        return report


def batch_tab(handler: BatchHandler, color: Color, controls: Controls) -> None:
    """The tab's components and events."""
    gr.Markdown(
        f"Up to {MAX_FILES} photographs, or zip archives of them ({MAX_BYTES >> 30} GB when unpacked). "
        "All other settings, the color scale included, are those of the Color tab.",
        elem_classes="note",
    )
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            files = PhotoFiles(label="Photographs or zip archives", file_count="multiple", height=220, elem_id="files")
            prompt = gr.Textbox("", label="Prompt for all of them", max_lines=3)
            file_format = gr.Radio(list(SUFFIXES), value="PNG", label="Format")
            with gr.Row():
                button = gr.Button("Colorize all", variant="primary", scale=3, min_width=160)
                stop = gr.Button("Cancel", scale=1, min_width=80)
        with gr.Column(min_width=320):
            archive = gr.File(label="Colored photographs", interactive=False, height=110, elem_id="archive")
            report = gr.Textbox(label="Report", lines=6, interactive=False, elem_id="report")
    files.change(color.keep, files, **PRIVATE)
    run = button.click(
        handler.colorize_batch,
        inputs_of(handler.colorize_batch, files=files, prompt=prompt, file_format=file_format, **controls),
        [archive, report],
        api_name="colorize_batch",
        show_progress_on=report,
        **MODEL,
    )
    stop.click(color.cancel, cancels=run, queue=False, **PRIVATE)


def _targets(batch: Batch, folder: Path, suffix: str) -> dict[str, Path]:
    """Where the result of each file goes; numbers are names that need no care."""
    (folder / "results").mkdir()
    return {name: folder / "results" / f"{index:04d}{suffix}" for index, name in enumerate(batch.files)}


def _summary(done: int, problems: list[tuple[str, str]]) -> str:
    lines = [f"{done} colored, {len(problems)} failed"]
    return "\n".join(lines + [f"{name}: {reason}" for name, reason in problems])
