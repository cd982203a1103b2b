"""Soak test of the demo: it is started, sent many requests by several clients at once, watched, and stopped.

    python -m eval study soak --run                    # several minutes
    python -m eval study soak --run --requests 40

Everything stays on the loopback interface. Every tenth request holds a text file in place of a photograph and has to
be refused. Needs a system on which a process can be interrupted (Linux, macOS).
"""

import argparse
import os
import queue
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError
from PIL import Image

from colorization.command_line import at_least

from ..files import package_versions
from ..runs import OUTPUT
from .examples import make_photo
from .ledger import Entry, read_entries, record
from .machine import describe_machine

STUDY = "soak"
APP = Path(__file__).parent.parent.parent / "app.py"
PACKAGES = ("torch", "diffusers", "gradio", "gradio_client", "pillow", "pyvips-binary")

BAD_EVERY = 10
PHOTOS = 20
SIDES = (64, 320)  # pixels
PROMPTS = ("", "red bus", "a cat on green grass", "blue sky, yellow sand")
START_SECONDS = 120
STOP_SECONDS = 30
REQUEST_SECONDS = 120
MAX_GROWTH_MB = 150  # of the server's memory, from the first quarter of the requests to the last
_BUSY = ("busy", "queue is full")


# The server


@dataclass(frozen=True)
class Server:
    """A demo that runs.

    Args:
        app: the file that was started.
        url: its address.
        process: as started.
        temporary: the folder in which it keeps uploads and results.
        log: what it printed.
    """

    app: Path
    url: str
    process: subprocess.Popen
    temporary: Path
    log: Path

    def megabytes(self) -> float:
        """Resident memory of the server and its children, in 10^6 bytes."""
        process = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 1e6

    def files(self) -> list[Path]:
        """What lies in the temporary folder."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]


@contextmanager
def serve(folder: Path, app: Path = APP) -> Iterator[Server]:
    """Run a demo with the embedded model on a free port of the loopback interface; it is interrupted at the end.

    Args:
        folder: an empty one, for the server's temporary files and its log.
        app: the demo's file.

    Raises:
        RuntimeError: it does not start; the message is what it printed last.
    """
    # A job in a shell's background ignores interrupts, and so would the server.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    temporary, log = folder / "temporary", folder / "server.log"
    temporary.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("COLORIZER_", "GRADIO_"))}
    environment = kept | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(temporary),
    }
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(app.resolve())],
            cwd=temporary,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            server = Server(app, f"http://127.0.0.1:{port}", process, temporary, log)
            _wait_until_ready(server)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(server: Server) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if httpx.get(server.url, timeout=10, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    printed = server.log.read_text(encoding="utf-8", errors="replace").strip()
    raise RuntimeError(f"{server.app.name} does not serve its page: {printed[-500:] or 'it printed nothing'}")


# The requests


@dataclass(frozen=True)
class Request:
    """One call of the endpoint.

    Args:
        file: a photograph, or a text file that has to be refused.
        size: of the photograph, (width, height); None for a text file.
        settings: the endpoint's other arguments.
    """

    file: Path
    size: tuple[int, int] | None
    settings: dict


@dataclass
class Record:
    """What came of the requests: how each ended, and the server after each.

    Args:
        outcomes: "ok", "refused" (a bad file, as it has to be), "busy" or "error", with their numbers.
        errors: what the errors said.
        seconds: of the requests that ended well.
        megabytes: the server's memory.
        files: number of temporary files.
        disk_megabytes: their size together.
    """

    outcomes: Counter = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    disk_megabytes: list[float] = field(default_factory=list)


def make_requests(folder: Path, count: int, seed: int) -> list[Request]:
    """Requests with small photographs and varied settings, the same for a seed; their files go into `folder`."""
    rng = random.Random(seed)
    text = folder / "notes.txt"
    text.write_text("This is not a photograph.\n", encoding="utf-8")
    sizes = [(rng.randint(*SIDES), rng.randint(*SIDES)) for _ in range(PHOTOS)]
    photos = [make_photo(folder, *size, index) for index, size in enumerate(sizes)]
    requests = []
    for number in range(1, count + 1):
        index = rng.randrange(PHOTOS)
        settings = {
            "prompt": rng.choice(PROMPTS),
            "negative_prompt": "",
            "steps": rng.choice((1, 2, 4, 8)),
            "guidance_scale": rng.choice((1.0, 3.0)),
            "color_scale": rng.choice((0.5, 1.0, 1.5)),
            "seed": rng.randrange(1000),
        }
        bad = number % BAD_EVERY == 0
        requests.append(Request(text, None, settings) if bad else Request(photos[index], sizes[index], settings))
    return requests


def send(client: Client, request: Request) -> tuple[str, str]:
    """Send one request; its outcome, as in :class:`Record`, and what the server or the client said of an error."""
    try:
        job = client.submit(image=handle_file(request.file), api_name="/colorize", **request.settings)
        _, download = job.result(timeout=REQUEST_SECONDS)
        if request.size is None:
            return "error", f"{request.file.name} was colored"
        with Image.open(download) as result:
            result.load()
        if result.size != request.size:
            return "error", f"{request.file.name}: the result has {result.size} pixels, not {request.size}"
        return "ok", ""
    except QueueError:
        return "busy", ""
    except AppError as error:
        if any(word in str(error).lower() for word in _BUSY):
            return "busy", ""
        if request.size is None and request.file.name in str(error):
            return "refused", ""
        return "error", str(error)
    except Exception as error:  # whatever it is, it is to be counted, not to end the test
        return "error", f"{type(error).__name__}: {error}"


def run_requests(server: Server, requests: Sequence[Request], clients: int, downloads: Path) -> Record:
    """Send the requests by so many clients at once; each takes the next one when it has an answer."""
    record, lock = Record(), threading.Lock()
    idle: queue.SimpleQueue[Client] = queue.SimpleQueue()
    for _ in range(clients):
        idle.put(Client(server.url, verbose=False, download_files=downloads, analytics_enabled=False))

    def work(request: Request) -> None:
        client = idle.get()
        start = time.perf_counter()
        outcome, message = send(client, request)
        seconds = time.perf_counter() - start
        idle.put(client)
        with lock:
            record.outcomes[outcome] += 1
            if outcome == "ok":
                record.seconds.append(seconds)
            elif outcome == "error":
                record.errors.append(message)
            files = server.files()
            record.megabytes.append(server.megabytes())
            record.files.append(len(files))
            record.disk_megabytes.append(sum(path.stat().st_size for path in files if path.exists()) / 1e6)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, requests))
    for _ in range(clients):
        idle.get().close()
    return record


# The result


def summarize_memory(megabytes: Sequence[float]) -> dict[str, float]:
    """Medians of the first and of the last quarter of the samples, the growth between them, and the peak."""
    quarter = max(1, len(megabytes) // 4)
    first, last = statistics.median(megabytes[:quarter]), statistics.median(megabytes[-quarter:])
    return {"first_quarter": first, "last_quarter": last, "growth": last - first, "peak": max(megabytes)}


def find_problems(result: dict) -> list[str]:
    """Why a result is no pass, one line each; empty for a pass."""
    outcomes, memory, left = result["outcomes"], result["memory_mb"], result["temporary_files"]["left"]
    problems = []
    if outcomes["error"]:
        problems.append(f"{outcomes['error']} requests failed, first: {result['errors'][0]}")
    if not outcomes["ok"]:
        problems.append("no photograph was colored")
    if memory["growth"] > memory["growth_allowed"]:
        problems.append(f"memory grew by {memory['growth']:.0f} MB, allowed are {memory['growth_allowed']} MB")
    if left:
        problems.append(f"{left} temporary files were left after the server's end")
    return problems


def soak(count: int, clients: int, seed: int) -> dict:
    """Run the whole test; its result.

    Raises:
        RuntimeError: the demo does not start, or ends on its own.
    """
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        for part in ("photos", "downloads", "server"):
            (folder / part).mkdir()
        requests = make_requests(folder / "photos", count, seed)
        with serve(folder / "server") as server:
            start = time.perf_counter()
            try:
                record = run_requests(server, requests, clients, folder / "downloads")
            except psutil.NoSuchProcess:
                raise RuntimeError(f"the demo ended with status {server.process.poll()}") from None
            seconds = time.perf_counter() - start
        left = len(server.files())
    p50, p95 = np.percentile(record.seconds, (50, 95)).tolist() if record.seconds else (None, None)
    return {
        "requests": count,
        "clients": clients,
        "seed": seed,
        "seconds": seconds,
        "outcomes": {name: record.outcomes[name] for name in ("ok", "refused", "busy", "error")},
        "errors": record.errors[:10],
        "request_seconds": {"n": len(record.seconds), "p50": p50, "p95": p95},
        "memory_mb": summarize_memory(record.megabytes) | {"growth_allowed": MAX_GROWTH_MB},
        "temporary_files": {"peak": max(record.files), "peak_mb": max(record.disk_megabytes), "left": left},
        "model": "embedded",
        "machine": describe_machine(),
        "versions": package_versions(PACKAGES),
    }


# Command


def entry_of(result: dict) -> Entry:
    """The test's result as an entry."""
    settings = {name: result[name] for name in ("requests", "clients", "seed", "model", "machine")}
    metrics = {f"requests_{name}": count for name, count in result["outcomes"].items()}
    metrics |= {"seconds": result["seconds"]}
    metrics |= {f"request_seconds_{name}": result["request_seconds"][name] for name in ("p50", "p95")}
    metrics |= {f"memory_mb_{name}": value for name, value in result["memory_mb"].items()}
    metrics |= {f"temporary_files_{name}": value for name, value in result["temporary_files"].items()}
    rows = {OUTPUT: {name: {"value": value} for name, value in metrics.items()}}
    name = f"{result['requests']} requests of {result['clients']} clients"
    return Entry(STUDY, name, settings=settings, rows=rows, versions=result["versions"])


def describe(entry: Entry) -> str:
    """A result in a paragraph."""
    values = {name: metric["value"] for name, metric in entry.metrics.items()}
    requests = ", ".join(f"{values[f'requests_{name}']} {name}" for name in ("ok", "refused", "busy", "error"))
    seconds = [values[f"request_seconds_{name}"] for name in ("p50", "p95")]
    times = (
        ""
        if None in seconds
        else f" half of the answers came within {seconds[0]:.1f} s, 95% within {seconds[1]:.1f} s;"
    )
    return (
        f"{entry.run} in {values['seconds']:.0f} s: {requests};{times} memory grew by "
        f"{values['memory_mb_growth']:.0f} MB to at most {values['memory_mb_peak']:.0f} MB; "
        f"{values['temporary_files_left']} temporary files were left."
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    add = parser.add_argument
    add("--run", action="store_true", help="send the requests")
    add("--requests", type=at_least(1), default=500, metavar="N", help="how many (default: 500)")
    add("--clients", type=at_least(1), default=8, metavar="N", help="how many at once (default: 8)")
    add("--seed", type=int, default=0, metavar="N", help="of the photographs and settings (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Run the test where asked to, and print the results that are kept; returns the exit status: 1 where it did not
    pass."""
    problems = []
    if arguments.run:
        try:
            result = soak(arguments.requests, arguments.clients, arguments.seed)
        except RuntimeError as error:
            problems = [str(error)]
        else:
            problems = find_problems(result)
            record([entry_of(result)], arguments.ledger)
    for entry in read_entries(STUDY, arguments.ledger):
        print(describe(entry))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0
