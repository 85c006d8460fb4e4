"""What is promised about faults, with real processes and a real SIGKILL."""

import csv
import random

from tests.faults.exactly_once import killed_in_the_middle


def counters(path, *, flows, steps):
    """Counters of *flows* that are read each half minute; some restart from zero."""
    chance = random.Random(1)
    counts = {f"edge{i}/in": chance.randrange(2**40) for i in range(flows)}
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", "flow", "value"])
        for half in range(2 * steps):
            for flow in list(counts):
                counts[flow] += chance.randrange(10**6)
                if chance.random() < 0.001:
                    counts[flow] = 0
                rows.writerow([1_700_000_000 + 30 * half, flow, counts[flow]])


def test_a_killed_forecaster_leaves_no_trace(bootstrap, tmp_path):
    """Each closed step of each flow is forecast once, as if nobody had died."""
    file = tmp_path / "traffic.csv"
    counters(file, flows=50, steps=120)
    outcome = killed_in_the_middle(
        bootstrap,
        tmp_path,
        file,
        {
            "turn": {"records_max": 60},
            "state": {"interval": "1s"},
            "kafka": {"session_timeout": "6s"},
        },
        feed=[],
    )
    assert outcome.codes == [0, 0]
    assert outcome.forecasts > 50 * 110
    assert set(outcome.partitions) == {0, 1, 2, 3}
    assert outcome.worst < 1e-4
