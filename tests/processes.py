"""Python commands in processes of their own, without the seconds in which each would import the same packages.

A server imports the packages once and is forked for every command: `run("-m", "train.lora", "--help")` does what
`subprocess.run([sys.executable, "-m", "train.lora", "--help"])` would do. None of the project's own modules is
imported beforehand, so that a command finds those of its own folder. Only on Linux can a process with these packages
be forked safely; elsewhere commands are started as usual.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

PACKAGES = (
    *("torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor", "torch.utils.tensorboard"),
    *("scipy.stats", "pandas", "pyarrow.dataset", "PIL.Image", "httpx", "jsonargparse", "psutil"),
)
# These keep what the environment says of the Hub: a command that is told something else imports them itself.
PACKAGES_OF_THE_HUB = (
    *("accelerate", "datasets", "peft", "transformers.models.clip.modeling_clip"),
    *("diffusers.models.unets.unet_2d_condition", "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"),
)
VARIABLES_OF_THE_HUB = ("HF_", "TRANSFORMERS_")
_MESSAGE_BYTES = 1 << 17


# Commands


class Process:
    """A command that was started by a server, with what a :class:`subprocess.Popen` has."""

    def __init__(self, answers: int):
        self._answers = os.fdopen(answers)
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, or minus the number of the signal that ended it."""
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            self.returncode = os.waitstatus_to_exitcode(int(self._answers.readline()))
            self._answers.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def start(
    *arguments: object,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> "Process | subprocess.Popen":
    """Start a command.

    Args:
        arguments: what would follow the interpreter's name: "-m" and a module, "-c" and code, or a file; then theirs.
        cwd: its folder; this process's own if None.
        env: its environment; this process's own if None.
        stdin, stdout, stderr: descriptors of files.
    """
    words = [str(argument) for argument in arguments]
    environment = dict(os.environ if env is None else env)
    if sys.platform != "linux":
        return subprocess.Popen(
            [sys.executable, *words], cwd=cwd, env=environment, stdin=stdin, stdout=stdout, stderr=stderr
        )
    with _starting:
        server = _start_server(PACKAGES + PACKAGES_OF_THE_HUB if _of_the_hub(environment) == _HUB else PACKAGES)
    answers, other = os.pipe()
    with open(os.devnull, "r+b") as nowhere:
        files = [nowhere.fileno() if file == subprocess.DEVNULL else file for file in (stdin, stdout, stderr)]
        socket.send_fds(server, [json.dumps([words, str(cwd or os.getcwd()), environment]).encode()], [*files, other])
    os.close(other)
    return Process(answers)


def run(
    *arguments: object,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str = "",
    timeout: float = 300,
) -> subprocess.CompletedProcess:
    """Run a command (see :func:`start`) to its end; what it printed comes back as text."""
    with TemporaryFile("w+") as stdin, TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        stdin.write(input)
        stdin.seek(0)
        process = start(
            *arguments, cwd=cwd, env=env, stdin=stdin.fileno(), stdout=stdout.fileno(), stderr=stderr.fileno()
        )
        try:
            process.wait(timeout)
        finally:
            process.send_signal(signal.SIGKILL)
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout.read(), stderr.read())


def run_group(count: int, *arguments: object, env: Mapping[str, str], **settings) -> list[subprocess.CompletedProcess]:
    """Run a command in several processes at once, each with what torchrun tells of its group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    group |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(count))
    with ThreadPoolExecutor(count) as pool:
        environments = [{**env, **group, "RANK": str(k), "LOCAL_RANK": str(k)} for k in range(count)]
        pending = [pool.submit(run, *arguments, env=environment, **settings) for environment in environments]
        return [future.result() for future in pending]


def _of_the_hub(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(VARIABLES_OF_THE_HUB)}


_HUB = _of_the_hub(os.environ)


# Server


_starting = threading.Lock()


@cache
def _start_server(packages: tuple[str, ...]) -> socket.socket:
    """Run this file; it ends when the socket is closed, as it is at the end of this process."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other:
        words = [sys.executable, __file__, str(other.fileno()), *packages]
        process = subprocess.Popen(
            words,
            pass_fds=[other.fileno()],
            env={name: value for name, value in os.environ.items() if name not in _of_the_hub(os.environ)} | _HUB,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def stop() -> None:
        own.close()
        process.wait()

    atexit.register(stop)
    return own


def _serve(requests: socket.socket) -> tuple[list[str], str, dict[str, str]]:
    """Fork for every request; returns, with its words, folder and environment, in the process that is to be it."""
    while True:
        message, files, *_ = socket.recv_fds(requests, _MESSAGE_BYTES, 4)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
        _reap()
    requests.close()
    *standard, answers = files
    # Between the server and the command stands a process that waits for the command's end.
    if pid := os.fork():
        os.write(answers, f"{pid}\n".encode())
        for file in standard:
            os.close(file)
        status = os.waitpid(pid, 0)[1]
        with suppress(BrokenPipeError):  # nobody waits for it any more
            os.write(answers, f"{status}\n".encode())
        os._exit(0)
    os.close(answers)
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)
    return json.loads(message)


def _reap() -> None:
    """Take the statuses of what has ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """What the interpreter does when it is started with these words in this folder."""
    old = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*added, *(path for path in sys.path[1:] if path not in old)]
    if "OMP_NUM_THREADS" in environment:
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    kind, *rest = words
    if kind == "-m":
        sys.path.insert(0, folder)
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *rest[1:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.path.insert(0, str(Path(kind).parent.resolve()))
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")


def _status(end: SystemExit) -> int:
    """What the interpreter makes of it."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _main(descriptor: str, *packages: str) -> None:
    for package in packages:
        with suppress(ImportError):  # what is missing or has moved is the command's own to import
            importlib.import_module(package)
    gc.freeze()  # or each collection would make copies of all that is shared
    words, folder, environment = _serve(socket.socket(fileno=int(descriptor)))
    status = 0
    try:
        _become(words, folder, environment)
    except SystemExit as end:
        status = _status(end)
    except BaseException:
        traceback.print_exc()
        status = 1
    # The interpreter's own end would take the packages apart, which takes seconds.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _main(*sys.argv[1:])
