"""Where each result goes, and whether it is there already: by what it says it was made of, not by its name."""

import os
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .atomic import sha256_of
from .files import Report, Task, printable

_SAME_FORMAT = {".jpg": ".jpg", ".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".png": ".png", ".webp": ".webp"}
PATTERN_FIELDS = ("stem", "suffix", "folder", "page")
_LONGEST_SHOWN = 60  # characters of a setting in messages


# Names


def check_pattern(pattern: str) -> str:
    """A pattern of results' names; ValueError where it names other fields than `PATTERN_FIELDS` or none."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
        pattern.format(**dict.fromkeys(PATTERN_FIELDS, ""))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"must be text with {_fields()} in it, got {pattern!r}") from error
    if "stem" not in fields or "/" in pattern or os.sep in pattern:
        raise ValueError(f"must be a file name with {{stem}} in it (besides it {_fields()}), got {pattern!r}")
    return pattern


def _fields() -> str:
    return ", ".join(f"{{{name}}}" for name in PATTERN_FIELDS)


def plan_tasks(
    inputs: list[tuple[Path, Path]],
    output: Path,
    suffix: str | None,
    report: Report,
    pattern: str | None = None,
    keep_both: bool = False,
) -> list[Task]:
    """Where each input's result goes. Clashes are reported; no input is ever overwritten.

    Args:
        inputs: from `files.find_inputs`.
        output: folder of the results.
        suffix: of the results; None keeps each input's, or takes .png where that cannot be written.
        report: is told of inputs that can have no result.
        pattern: of the results' names without suffix, see :func:`check_pattern`.
        keep_both: give results whose name is taken by another input a number.
    """
    inputs = _without_results(inputs, output, report)
    originals = {os.path.realpath(source) for source, _ in inputs}
    owners: dict[Path, Path] = {}
    tasks = []
    for source, name, page, of_several in _all_pages(inputs, report):
        number = str(page + 1) if of_several else ""
        wanted = output / name.with_name(_result_name(name, suffix, pattern, number))
        target = wanted
        for candidate in numbered(wanted) if keep_both else (wanted,):
            target = candidate
            if target not in owners and os.path.realpath(target) not in originals:
                break
        owner = source if target not in owners else owners[target]
        if target in owners:
            report.fail(
                source,
                f"its result would have the same name as that of {owner}: {target} (--keep-both gives it a number, "
                '--name-pattern "{stem}-{suffix}" another name)',
            )
        elif os.path.realpath(target) in originals:
            report.fail(source, f"the result would overwrite the input {target}: choose another --output or --format")
        elif target.is_dir():
            report.fail(source, f"a folder has the name of the result: {target}")
        else:
            owners[target] = source
            tasks.append(Task(source, target, page=page if of_several else None))
    return tasks


def _all_pages(inputs: list[tuple[Path, Path]], report: Report) -> Iterator[tuple[Path, Path, int, bool]]:
    """(file, name, page, whether it has several) of every page of a scan and frame of an animation."""
    from .image_io import list_pages  # with libvips

    for source, name in inputs:
        try:
            pages = list_pages(source)
        except Exception:  # which is said when the file is read, as of any other
            pages = [0]
        if len(pages) > 1:
            report.notes.append(f"{printable(source)}: {len(pages)} pages or frames, each has a result of its own")
        for page in pages:
            yield source, name, page, len(pages) > 1


def _result_name(name: Path, suffix: str | None, pattern: str | None, page: str) -> str:
    """The name of a result; that of a page ends in its number unless the pattern says where that is."""
    own = name.suffix
    stem = (pattern or "{stem}").format(stem=name.stem, suffix=own.lstrip("."), folder=name.parent.name, page=page)
    if page and "{page}" not in (pattern or ""):
        stem += f"-{page}"
    return stem + (suffix or _SAME_FORMAT.get(own.lower(), ".png"))


def numbered(target: Path) -> Iterator[Path]:
    """`a.png`, `a (2).png`, `a (3).png`, ..."""
    yield target
    number = 2
    while True:
        yield target.with_name(f"{target.stem} ({number}){target.suffix}")
        number += 1


def _without_results(inputs: list[tuple[Path, Path]], output: Path, report: Report) -> list[tuple[Path, Path]]:
    """The inputs but for what an earlier run has written to the output folder, where that is the inputs' too."""
    folder = Path(os.path.realpath(output))
    from .photo import INPUT  # with libvips

    kept, results = [], 0
    for source, name in inputs:
        own = Path(os.path.realpath(source.parent))
        if (own == folder or folder in own.parents) and (recorded(source) or {}).get(INPUT):
            results += 1
        else:
            kept.append((source, name))
    if results:
        report.notes.append(f"left out: {results} result{'' if results == 1 else 's'} of earlier runs in {output}")
    return kept


# What is done


def recorded(file: Path) -> dict[str, Any] | None:
    """The settings that a result says it was made with; None for any other file."""
    from .image_io import read_settings  # with libvips

    try:
        settings = read_settings(file)
    except Exception:  # damaged in whatever way: no result
        return None
    return settings if isinstance(settings, dict) else None


def unfinished(
    tasks: list[Task],
    expected: Callable[[Task], Mapping[str, Any]],
    overwrite: bool,
    keep_both: bool,
    report: Report,
) -> list[Task]:
    """The tasks that are still to be done; finished ones are counted as skipped, taken names reported.

    Args:
        tasks: all.
        expected: settings that a task's result would be made with, without those that only coloring tells.
        overwrite: replace what is there.
        keep_both: take another name where another result has the one wanted.
        report: is told.
    """
    if overwrite:
        return tasks
    taken = {task.target for task in tasks}
    left = []
    for task in tasks:
        try:
            task, difference = _choose_name(task, expected, keep_both, taken)
        except Exception as error:  # an input that cannot be read
            report.fail(task.source, error)
            continue
        if difference is None:
            left.append(task)
        elif not difference:
            report.skipped += 1
        else:
            report.fail(
                task.source,
                f"{task.target} is there and {difference} (--overwrite replaces it, --keep-both writes beside it)",
            )
    return left


def _choose_name(
    task: Task, expected: Callable[[Task], Mapping[str, Any]], keep_both: bool, taken: set[Path]
) -> tuple[Task, str | None]:
    """The task with its final target, and None if there is nothing, "" if it is done, else what is there."""
    for target in numbered(task.target):
        if target != task.target and target in taken:
            continue
        if not target.exists() or target.stat().st_size == 0:
            taken.add(target)
            return replace(task, target=target), None
        difference = what_differs(target, task, expected(task))
        if not difference or not keep_both:
            return task, difference
    raise AssertionError("the numbers are endless")


def what_differs(target: Path, task: Task, expected: Mapping[str, Any]) -> str:
    """What tells a file from the result of a task, "" if nothing does."""
    from .labels import is_setting
    from .photo import INPUT, input_record  # with libvips

    settings = recorded(target)
    if settings is None:
        return "is no result of this program"
    made_of = settings.get(INPUT)
    if not isinstance(made_of, dict):
        return "does not say of which photograph it is the result"
    if made_of != input_record(made_of.get("file"), sha256_of(task.source), task.page):
        return f"is the result of another photograph, {made_of.get('file')}"
    was = {"hints": [], **settings}
    if "automatic_color_scale" in was:
        was["color_scale"] = "auto"
    differing = [name for name in expected if not is_setting(was, name, expected[name])]
    if not differing:
        return ""
    name = differing[0]
    return f"was made with other settings: {name} was {_shown(was.get(name))} and is {_shown(expected[name])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
