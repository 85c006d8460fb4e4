"""What turns did becomes one line now and then."""

from __future__ import annotations

from streamer.config.types import Duration
from streamer.ops.telemetry import Telemetry, TelemetryConfig


class Reporter:
    """Lines, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.lines = []
        self.now_s = 0.0
        config = TelemetryConfig(interval=Duration(60))
        self.telemetry = Telemetry(config, self, monotonic=lambda: self.now_s)

    def info(self, event, **fields):
        self.lines.append((event, fields))


def test_counts_are_added_up_and_levels_are_the_newest():
    """One line for all turns of an interval, and none before it is over."""
    reporter = Reporter()
    for turn in range(3):
        counts = {"records": 2, "readings": 10, "rejected.not_json": 1, "verdict.rated": 9}
        reporter.telemetry.observe(counts, {"flows": 5 + turn, "lag": 3 - turn}, took_s=2.0)
        reporter.telemetry.tick()
    assert reporter.lines == []
    reporter.now_s = 60.0
    reporter.telemetry.tick()
    ((event, fields),) = reporter.lines
    assert event == "turns.summary"
    assert fields["turns"] == 3
    assert fields["readings"] == 30
    assert fields["rejects"] == fields["rejected.not_json"] == 3
    assert fields["verdict.rated"] == 27
    assert (fields["flows"], fields["lag"]) == (7, 1)
    assert fields["busy"] == 0.1
    assert fields["readings_per_s"] == 0  # 30 in 60 s, rounded


def test_reported_counts_are_not_reported_again():
    """A line is about the time since the last one."""
    reporter = Reporter()
    reporter.telemetry.observe({"readings": 7}, {})
    reporter.telemetry.flush()
    reporter.telemetry.observe({"readings": 5}, {})
    reporter.telemetry.flush()
    assert [fields["readings"] for _, fields in reporter.lines] == [7, 5]


def test_without_work_nothing_is_logged():
    """An idle daemon keeps quiet."""
    reporter = Reporter()
    reporter.telemetry.observe({"records": 0}, {"flows": 3})
    reporter.now_s = 600.0
    reporter.telemetry.tick()
    reporter.telemetry.flush()
    assert reporter.lines == []


def test_the_usual_counts_are_logged_even_if_zero():
    """A line can be searched for rejects=0."""
    reporter = Reporter()
    reporter.telemetry.observe({"readings": 1, "evicted": 0}, {})
    reporter.telemetry.flush()
    ((_, fields),) = reporter.lines
    assert fields["rejects"] == fields["forecasts"] == 0
    assert "evicted" not in fields
