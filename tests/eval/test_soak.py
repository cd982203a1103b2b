"""The soak test of the demo, at small size."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from conftest import random_photo
from gradio_client import Client
from studying import kept, study

from eval.studies.soak import BAD_EVERY, Request, find_problems, make_requests, send, summarize_memory

PASSED = {
    "outcomes": {"ok": 9, "refused": 1, "busy": 0, "error": 0},
    "errors": [],
    "memory_mb": {"growth": 10.0, "growth_allowed": 100},
    "temporary_files": {"left": 0},
}


@pytest.mark.slow
def test_ten_requests(tmp_path, capsys):
    assert study(tmp_path, "soak", "--run", "--requests", "10", "--clients", "4") == 0
    (entry,) = kept(tmp_path, "soak")
    values = {name: metric["value"] for name, metric in entry.metrics.items()}
    outcomes = {name: values[f"requests_{name}"] for name in ("ok", "refused", "busy", "error")}
    assert outcomes == {"ok": 9, "refused": 1, "busy": 0, "error": 0}
    assert [entry.settings[name] for name in ("requests", "clients", "seed")] == [10, 4, 0]
    assert 0 < values["request_seconds_p50"] <= values["request_seconds_p95"] <= values["seconds"]
    assert 100 < values["memory_mb_first_quarter"] <= values["memory_mb_peak"]
    assert values["temporary_files_peak"] > 0 and values["temporary_files_left"] == 0
    assert "10 requests of 4 clients" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_requests_are_the_same_for_a_seed(tmp_path):
    requests = make_requests(tmp_path, 40, seed=1)
    assert requests == make_requests(tmp_path, 40, seed=1) != make_requests(tmp_path, 40, seed=2)
    bad = [number for number, request in enumerate(requests, 1) if request.size is None]
    assert bad == list(range(BAD_EVERY, 41, BAD_EVERY))


def test_a_full_queue_is_busy_and_other_answers_are_told_apart(tmp_path):
    """A server of gradio's with one place to wait in, which does what each request's prompt says."""
    release = threading.Event()

    def answer(image, prompt):
        if prompt == "wait":
            assert release.wait(60)
        if prompt == "busy":
            raise gr.Error("The demo is busy, try again later.")
        if prompt == "refuse":
            raise gr.Error("notes.txt: not an image")
        return "", image

    with gr.Blocks(analytics_enabled=False) as demo:
        button, photo, result = gr.Button(), gr.File(), gr.File()
        button.click(answer, [photo, gr.Textbox()], [gr.Textbox(), result], api_name="colorize", concurrency_limit=1)
    _, url, _ = demo.queue(max_size=1).launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        random_photo(48, 32).save(tmp_path / "photo.png")
        (tmp_path / "notes.txt").write_text("text")
        client = Client(url, verbose=False, download_files=tmp_path / "downloads", analytics_enabled=False)

        def outcome(prompt: str, size: tuple[int, int] | None = (48, 32)) -> str:
            file = tmp_path / ("photo.png" if size else "notes.txt")
            return send(client, Request(file, size, {"prompt": prompt}))[0]

        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(outcome, "wait") for _ in range(4)]
            end = time.monotonic() + 60
            while sum(job.done() for job in jobs) < 2 and time.monotonic() < end:
                time.sleep(0.05)
            release.set()
            assert Counter(job.result() for job in jobs) == {"ok": 2, "busy": 2}
        assert outcome("busy") == "busy"
        assert outcome("refuse", size=None) == "refused"
        assert outcome("refuse") == "error"  # of a photograph
        assert outcome("", size=None) == "error"  # a text file was taken
        assert outcome("", size=(47, 32)) == "error"
        client.close()
    finally:
        demo.close(verbose=False)


def test_problems():
    assert find_problems(PASSED) == []
    assert find_problems(PASSED | {"outcomes": {"ok": 1, "refused": 0, "busy": 9, "error": 0}}) == []
    failed = PASSED | {"outcomes": {"ok": 8, "refused": 1, "busy": 0, "error": 1}, "errors": ["photo.jpg: no"]}
    assert find_problems(failed) == ["1 requests failed, first: photo.jpg: no"]
    (problem,) = find_problems(PASSED | {"memory_mb": {"growth": 101.0, "growth_allowed": 100}})
    assert "memory" in problem
    (problem,) = find_problems(PASSED | {"temporary_files": {"left": 3}})
    assert "3 temporary files" in problem
    (problem,) = find_problems(PASSED | {"outcomes": {"ok": 0, "refused": 0, "busy": 10, "error": 0}})
    assert "no photograph" in problem


def test_memory_is_compared_between_quarters():
    memory = summarize_memory([1.0, 2.0, 50.0, 50.0, 50.0, 90.0, 6.0, 8.0])
    assert memory == {"first_quarter": 1.5, "last_quarter": 7.0, "growth": 5.5, "peak": 90.0}
    assert summarize_memory([3.0])["growth"] == 0


def test_bad_arguments(tmp_path, capsys):
    for arguments in (["--requests", "0"], ["--clients", "x"], ["--nothing"]):
        with pytest.raises(SystemExit) as ending:
            study(tmp_path, "soak", *arguments)
        error = capsys.readouterr().err
        assert ending.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
