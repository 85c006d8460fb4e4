"""
`python -m tests.bench [GROUP…] [--plot FILE.png]`: what the path of a reading costs, as a table.

Groups are core, alerts, decoders, kafka, sqlite, state, beside, service, console and memory;
without any, all of them. Beyond these there are growth, from few flows to many, which --plot draws,
and million, which is a complete instance of so many. BENCH_JSON names a file that gets the figures
too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.bench import (
    alerts,
    beside,
    console,
    core,
    decoders,
    growth,
    memory,
    million,
    service,
    state,
    through,
)
from tests.bench.rows import Row, machine
from tests.broker.broker import Broker

GROUPS: Mapping[str, Callable[[], Iterator[Row]]] = {
    "core": core.rows,
    "alerts": alerts.rows,
    "decoders": decoders.rows,
    "sqlite": through.sqlite,
    "kafka": lambda: with_kafka(through.kafka),
    "state": lambda: with_kafka(state.rows),
    "beside": lambda: with_kafka(beside.rows),
    "service": service.rows,
    "console": console.rows,
    "memory": memory.rows,
}


def main(arguments: list[str]) -> int:
    """Print a row as soon as it is known; 1 where a floor is missed."""
    asked = argparse.ArgumentParser(prog="python -m tests.bench")
    asked.add_argument("groups", nargs="*", metavar="GROUP")
    asked.add_argument("--plot", type=Path, metavar="FILE.png", help="draw what growth finds")
    given = asked.parse_args(arguments)
    groups = GROUPS | {
        "growth": lambda: growth.rows(given.plot),
        "million": lambda: with_kafka(million.rows),
    }
    unknown = [name for name in given.groups if name not in groups]
    if unknown:
        print(f"no such group: {', '.join(unknown)}; there are {', '.join(groups)}")
        return 2
    print(machine(), flush=True)
    found: list[Row] = []
    began = time.monotonic()
    for name in given.groups or GROUPS:
        for row in groups[name]():
            found.append(row)
            print(line(row), flush=True)
    print(f"{time.monotonic() - began:.0f} s; load now {os.getloadavg()[0]:.1f}")
    if "BENCH_JSON" in os.environ:
        figures = {
            row.name: {"value": row.value, "floor": row.floor, "unit": row.unit} for row in found
        }
        Path(os.environ["BENCH_JSON"]).write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all(row.holds for row in found) else 1


def line(row: Row) -> str:
    """A row of the table."""
    sign = "<=" if row.at_most else ">="
    floor = "" if row.floor is None else f"{sign} {row.floor:,.3g}"
    mark = " " if row.holds else "!"
    return f"{mark} {row.name:33} {row.value:>10,.3f} {row.unit:11} {floor:10} {row.note}"


def with_kafka(measure: Callable[[str], Iterator[Row]]) -> Iterator[Row]:
    """Yours if KAFKA_BOOTSTRAP_SERVERS is set, else a real broker of our own."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield from measure(given)
        return
    with contextlib.ExitStack() as undo:
        broker = Broker()
        undo.callback(broker.discard)
        undo.callback(through.let_go)
        broker.start()
        yield from measure(broker.bootstrap)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
