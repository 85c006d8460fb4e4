"""
`python -m tests.fuzz --seconds 60`: each target for so long, guided by coverage.

atheris guides where it is installed (`pip install 'streamer[fuzz]'`), and keeps what it finds of
interest in `.cache/fuzz`; else the same mutations as in the tests go on until the time is
over. A finding ends the run; its bytes belong into `targets.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import subprocess
import sys
import time

from tests.broker.installation import ROOT
from tests.fuzz.mutations import mutations
from tests.fuzz.targets import TARGETS

CORPUS = ROOT / ".cache" / "fuzz"
INPUT_BYTES_MAX = 4096
GUIDED = """
import sys, atheris
with atheris.instrument_imports(include=["streamer.core"]):
    from tests.fuzz.targets import TARGETS
target, _ = TARGETS[{name!r}]
atheris.Setup(sys.argv, target)
atheris.Fuzz()
"""


def guided(name: str, seconds: int) -> int:
    """A process of its own: libFuzzer ends the one that it runs in."""
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(TARGETS[name][1]):
        (corpus / f"seed-{i}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", "-rss_limit_mb=4096"]
    options += [f"-artifact_prefix={CORPUS / name}-", "-print_final_stats=1", "-verbosity=1"]
    command = [sys.executable, "-c", GUIDED.format(name=name), *options, str(corpus)]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    lines = done.stderr.splitlines()
    if done.returncode:
        print("\n".join(lines[-40:]))
    stats = dict(line.split(": ") for line in lines if line.startswith("stat::"))
    kept = len(list(corpus.iterdir()))
    executed = stats.get("stat::number_of_executed_units", "0").strip()
    print(f"{name:10} {executed:>10} inputs, {kept:>5} of interest, exit {done.returncode}")
    return done.returncode


def unguided(name: str, seconds: int) -> int:
    target, seeds = TARGETS[name]
    ends, done = time.monotonic() + seconds, 0
    for seed in itertools.count(int(time.time())):
        for given in mutations(seeds, 200, seed):
            try:
                target(given)
            except BaseException:
                print(f"given {given!r}")
                raise
        done += 200
        if time.monotonic() > ends:
            break
    print(f"{name:10} {done:>10} inputs, unguided")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="see the module")
    parser.add_argument("targets", nargs="*", default=[], help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    options = parser.parse_args()
    found = importlib.util.find_spec("atheris") is not None
    if not found:
        print("atheris is not installed: nothing guides this")
    fuzz = guided if found else unguided
    return max(fuzz(name, options.seconds) for name in options.targets or TARGETS)


if __name__ == "__main__":
    sys.exit(main())
