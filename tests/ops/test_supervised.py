"""A child ends with the process that supervises it, and with no other."""

import os
import subprocess
import sys

from streamer.ops.supervised import PARENT, SupervisedProcess, supervisor_ended

ASK = (
    "import time\n"
    "from streamer.ops.supervised import supervisor_ended\n"
    "while not supervisor_ended(): time.sleep(0.02)\n"
    "print('ended', flush=True)\n"
)


def test_a_process_that_nobody_supervises_has_no_supervisor_that_ended():
    assert not supervisor_ended({})
    assert not supervisor_ended({PARENT: str(os.getppid())})
    assert supervisor_ended({PARENT: "1" if os.getppid() != 1 else "2"})


def test_a_child_whose_supervisor_ended_before_it_looked_notices():
    """The parent has ended before the child has imported anything."""
    start = (
        "import os, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {ASK!r}], "
        f"env={{**os.environ, {PARENT!r}: str(os.getpid())}})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "ended\n"  # the pipe is closed only when the child has ended


def test_a_child_is_given_its_supervisor(monkeypatch):
    given = {}
    monkeypatch.setattr(
        subprocess, "Popen", lambda *_, env, **__: given.update(env) or subprocess.DEVNULL
    )
    SupervisedProcess(["version"]).tick()
    assert given[PARENT] == str(os.getpid())
