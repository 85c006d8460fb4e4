"""
Two forecasters on a real Kafka, one of them killed and started again in the middle.

Also by hand, on any file that `streamer feed` takes:

    python -m tests.faults.exactly_once traffic.csv.gz --step 600s --kind gauge
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.broker.broker import Broker
from tests.faults.daemons import Group, Verifier, forecasts, until, worst_difference
from tests.faults.undisturbed import undisturbed


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    records: int  # that were fed
    forecasts: int  # each of them told once
    worst: float  # difference from the undisturbed run, in units of each flow's scale
    codes: list[int]  # of the daemons at their end
    took_s: float  # from the first start to the last forecast
    partitions: dict[int, int]  # forecasts in each


def killed_in_the_middle(
    bootstrap: str, home: Path, file: Path, settings: dict[str, object], *, feed: list[str]
) -> Outcome:
    """Feed *file*, kill a forecaster half way and start it again; what it told and should have."""
    suffix = uuid.uuid4().hex[:8]
    topic, group = f"counters-{suffix}", f"group-{suffix}"
    told_to = f"forecasts-{suffix}"
    given = settings | {"group": group, "instance": "undisturbed"}
    given["input"] = {**given.get("input", {}), "topics": [topic]}
    given["forecasts"] = {**given.get("forecasts", {}), "topic": told_to}
    url = f"kafka://{bootstrap}"
    daemons = Group(home, {**given, "log": url})
    verifier = Verifier(bootstrap, group)
    try:
        daemons.call("topics", "-c", str(daemons.config), "--create", "--partitions", "4")
        daemons.call("feed", str(file), "--log", url, "--topic", topic, *feed)
        began, total = time.monotonic(), verifier.lag(topic)
        daemons.start("first")
        second = daemons.start("second")
        until(lambda: verifier.lag(topic) < 0.6 * total, 300, "the first part")
        second.kill()
        daemons.start("second")
        until(lambda: verifier.lag(topic) == 0, 600, "the rest")
        took_s = time.monotonic() - began
        codes = daemons.stop()
        lanes: Counter[int] = Counter()
        told = forecasts(counted(verifier.read(told_to), lanes))
    finally:
        daemons.kill()
        verifier.close()
    quiet = undisturbed(home / "undisturbed", given, file, feed)
    worst = worst_difference(told, quiet)
    return Outcome(total, len(told), worst, codes, took_s, dict(sorted(lanes.items())))


def counted(records: Iterable[tuple[int, bytes]], lanes: Counter[int]) -> Iterator[bytes]:
    """The values of *records*; *lanes* counts the forecasts of each partition."""
    for number, value in records:
        lanes[number] += value.count(b"\n") + 1
        yield value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--step", default="60s")
    parser.add_argument("--kind", default="counter")
    parser.add_argument("--batch", type=int, default=1, help="forecasts a record")
    options = parser.parse_args()
    broker = Broker()
    broker.start()
    try:
        with tempfile.TemporaryDirectory() as home:
            outcome = killed_in_the_middle(
                broker.bootstrap,
                Path(home),
                options.file,
                {
                    "step": options.step,
                    "input": {"kind": options.kind},
                    "forecasts": {"batch": options.batch},
                },
                feed=["--kind", options.kind],
            )
    finally:
        broker.discard()
    print(outcome)


if __name__ == "__main__":
    main()
