"""
Starts `streamer` as a process of its own in milliseconds: forked where all libraries are loaded.

`import torch` takes seconds of a processor, and tests start `streamer` more than a hundred times.
So each worker of pytest has one server that imports what it needs, and each `streamer` is a fork of
it. That is a process like any other: with its own session, environment, directory, files, signals
and exit code. Only the seed of its hashes and its name in `ps` are the server's, and its
interpreter is not torn down at the end. So some are *executed* instead, as a shell does it: one of
each group of chaos on Kafka; tests of the command line, of `feed` and of the demo do so by
themselves.

When pytest ends, in whatever way, the server kills what it has started and ends, too.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

import streamer

ROOT = Path(__file__).parents[1]
SIZE = struct.Struct("!I")  # of a request; its files come with it
STARTED = struct.Struct("!i")  # a process id, then, when it has ended, its exit code
NEEDLESS = ("streamer.__main__", "streamer.experiments", "streamer.plots", "streamer.feed.parquet")
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
PR_SET_PDEATHSIG = 1


class Server:
    """The process that forks; one in each that asks for it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.processes", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=DEVNULL,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is for pytest
            )
        self._socket = ours
        self._one_at_a_time = threading.Lock()
        atexit.register(self.close)

    def fork(self, request: Mapping[str, object], files: list[int]) -> None:
        """Start one; *files* are its standard streams, and where it reports how it fares."""
        body = json.dumps(request).encode()
        with self._one_at_a_time:
            socket.send_fds(self._socket, [SIZE.pack(len(body))], files)
            self._socket.sendall(body)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


server = cache(Server)


class Process:
    """
    A `streamer` with these *arguments*; it offers what subprocess.Popen does.

    Its own files may grow to *file_bytes_max*; *executed*, it loads its libraries itself.
    *constants* of modules are replaced, as pytest's monkeypatch does it ("module.NAME").
    """

    def __init__(
        self,
        *arguments: object,
        stdin: IO[bytes] | int = DEVNULL,
        stdout: IO[bytes] | int | None = None,
        stderr: IO[bytes] | int | None = None,
        env: Mapping[str, str] | None = None,
        file_bytes_max: int | None = None,
        executed: bool = False,
        constants: Mapping[str, object] | None = None,
    ) -> None:
        self.args = [str(each) for each in arguments]
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        self.stderr: IO[str] | None = None
        request = {
            "arguments": self.args,
            "env": dict(os.environ if env is None else env),
            "cwd": os.getcwd(),  # noqa: PTH109 - as text
            "file_bytes_max": file_bytes_max,
            "executed": executed,
            "constants": constants or {},
        }
        ours, theirs = socket.socketpair()
        self._reports = ours.detach()
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, self._reports)
        with theirs, contextlib.ExitStack() as lent:
            if stdin == PIPE:
                reads, writes = os.pipe()
                lent.callback(os.close, reads)
                self.stdin, stdin = open(writes, "wb", buffering=0), reads  # noqa: PTH123, SIM115
            if stderr == PIPE:
                reads, writes = os.pipe()
                lent.callback(os.close, writes)
                self.stderr, stderr = open(reads, encoding="utf-8"), writes  # noqa: PTH123, SIM115
            null = os.open(os.devnull, os.O_RDWR)
            lent.callback(os.close, null)
            given = [stdin, 1 if stdout is None else stdout, 2 if stderr is None else stderr]
            files = [null if each == DEVNULL else fileno(each) for each in given]
            server().fork(request, [*files, theirs.fileno()])
        self.pid = self._report()

    def _report(self) -> int:
        report = os.read(self._reports, STARTED.size)
        if not report:
            raise RuntimeError("the server of processes has ended")
        (number,) = STARTED.unpack(report)
        return int(number)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative if a signal ended it."""
        ready = self.returncode is not None or select.select([self._reports], [], [], timeout)[0]
        if not ready:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        with self._lock:
            if self.returncode is None:
                self.returncode = self._report()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Kill it if it still runs, and close what is open."""
        self.kill()
        self.wait()
        for pipe in (self.stdin, self.stderr):
            if pipe is not None:
                pipe.close()


def run(
    *arguments: object, text: str = "", check: bool = False, file_bytes_max: int | None = None
) -> subprocess.CompletedProcess[str]:
    """A `streamer` that reads *text* and ends by itself."""
    with contextlib.ExitStack() as stack:
        into, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        into.write(text.encode())
        into.seek(0)
        process = Process(
            *arguments, stdin=into, stdout=out, stderr=err, file_bytes_max=file_bytes_max
        )
        stack.callback(process.close)
        code = process.wait()
        for each in (out, err):
            each.seek(0)
        told = [each.read().decode(errors="replace") for each in (out, err)]
    done = subprocess.CompletedProcess(process.args, code, *told)
    assert not check or code == 0, f"streamer {' '.join(process.args)} ended with {code}: {told[1]}"
    return done


def fileno(given: IO[bytes] | int) -> int:
    return given if isinstance(given, int) else given.fileno()


# --- in the server -------------------------------------------------------------------------------


class Birth(NamedTuple):
    """What a fork is to be."""

    arguments: list[str]
    env: dict[str, str]
    cwd: str
    file_bytes_max: int | None
    executed: bool
    constants: dict[str, object]


def preload() -> None:
    """Import all that a `streamer` may need, and start no thread: forks would be without it."""
    threads = thread_count()  # numpy's OpenBLAS has some, and ends them at a fork
    for module in pkgutil.walk_packages(streamer.__path__, "streamer."):
        if not module.name.startswith(NEEDLESS):
            with contextlib.suppress(ImportError):  # of an optional package
                importlib.import_module(module.name)
    assert thread_count() == threads
    gc.collect()
    gc.freeze()  # or the first collection of each fork would copy all pages


def thread_count() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def serve(asked: socket.socket) -> None:
    """Fork whenever *asked*; return in the forks only."""
    living: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: the pid, and where to report
    selector = selectors.DefaultSelector()
    selector.register(asked, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd != asked.fileno():
                selector.unregister(key.fd)
                pid, reports = living.pop(key.fd)
                os.close(key.fd)
                report(reports, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                reports.close()
                continue
            head, files, _, _ = socket.recv_fds(asked, SIZE.size, 4)
            if not head:  # pytest has ended, in whatever way
                for pid, _ in living.values():
                    os.killpg(pid, signal.SIGKILL)  # with those that it has started
                os._exit(0)
            body = asked.recv(SIZE.unpack(head)[0], socket.MSG_WAITALL)
            reports, pid = socket.socket(fileno=files.pop()), os.fork()
            if pid == 0:
                selector.close()
                for pidfd, (_, other) in living.items():
                    os.close(pidfd)
                    other.close()
                reports.close()
                asked.close()
                become(Birth(**json.loads(body)), files)
                return
            for each in files:
                os.close(each)
            report(reports, pid)
            pidfd = os.pidfd_open(pid)
            living[pidfd] = pid, reports
            selector.register(pidfd, selectors.EVENT_READ)


def report(to: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody wants to know any more
        to.send(STARTED.pack(number))


def become(birth: Birth, streams: list[int]) -> None:
    """Get everything that a new process has of its own."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it ends with the server
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(birth.cwd)
    os.environ.clear()
    os.environ.update(birth.env)
    sys.argv = [str(ROOT / "streamer" / "__main__.py"), *birth.arguments]
    if "PYTHONFAULTHANDLER" in birth.env:
        faulthandler.enable()
    if birth.file_bytes_max is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (birth.file_bytes_max,) * 2)
    if birth.executed:
        os.execv(sys.executable, [sys.executable, "-m", "streamer", *birth.arguments])
    for name, value in birth.constants.items():
        module, _, attribute = name.rpartition(".")
        assert hasattr(sys.modules[module], attribute)
        setattr(sys.modules[module], attribute, value)
    np.random.seed()  # noqa: NPY002 - what libraries may use; `random` does it by itself


def live() -> None:
    """What the interpreter does with a main program; unloading torch alone would take a second."""
    code: object = 0
    try:
        importlib.import_module("streamer.__main__").main()
    except SystemExit as error:
        code = error.code or 0
    except BaseException:  # noqa: BLE001 - the end of a program
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    preload()
    serve(socket.socket(fileno=int(sys.argv[1])))
    live()
