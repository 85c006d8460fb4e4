"""
Two forecasters on a real Kafka, one of them killed and started again in the middle of a file.

By hand, on real traffic, in any form that `streamer feed` takes:

    python -m tests.faults.exactly_once traffic.csv.gz --step 600s --kind gauge
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from streamer.config.schema import load
from tests.broker.broker import Broker
from tests.faults.daemons import Group, until
from tests.faults.proof import Proof, prove
from tests.faults.witnesses import KafkaWitness

PARTITIONS = 4


def killed_in_the_middle(
    bootstrap: str, home: Path, file: Path, settings: dict[str, object], feed: list[str]
) -> tuple[Proof, float]:
    """Feed *file*, kill a forecaster half way and start it again; the proof, and seconds taken."""
    url, (topic,) = f"kafka://{bootstrap}", settings["input"]["topics"]
    group = Group(home, {**settings, "log": url})
    witness = KafkaWitness(bootstrap, str(settings["group"]))
    try:
        group.make_topics(PARTITIONS)
        group.call("feed", str(file), "--log", url, "--topic", topic, *feed)
        began, total = time.monotonic(), witness.lag(topic)
        group.start("first")
        second = group.start("second")
        until(lambda: witness.lag(topic) < 0.6 * total, 600, "the first part")
        second.kill()
        group.start("second")
        until(lambda: witness.lag(topic) == 0, 1200, "the rest")
        took_s = time.monotonic() - began
        assert group.stop() == [0, 0]
        return prove(witness, load(group.config, (), {})), took_s
    finally:
        group.kill()
        witness.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="see the module")
    parser.add_argument("file", type=Path)
    parser.add_argument("--step", default="60s")
    parser.add_argument("--kind", default="counter")
    parser.add_argument("--batch", type=int, default=1, help="forecasts a record")
    options = parser.parse_args()
    settings: dict[str, object] = {
        "group": "exactly",
        "step": options.step,
        "input": {"kind": options.kind, "topics": ["counters"]},
        "forecasts": {"batch": options.batch, "topic": "forecasts"},
    }
    broker = Broker()
    broker.start()
    try:
        with tempfile.TemporaryDirectory() as home:
            proof, took_s = killed_in_the_middle(
                broker.bootstrap, Path(home), options.file, settings, ["--kind", options.kind]
            )
    finally:
        broker.discard()
    for name, what in [*proof.table(), ("took", f"{took_s:.0f} s")]:
        print(f"{name:34} {what}")
    return 0 if proof.holds else 1


if __name__ == "__main__":
    sys.exit(main())
