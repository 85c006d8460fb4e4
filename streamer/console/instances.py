"""What each process of the group reports of itself on the metrics topic."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streamer.core.types import Record
from streamer.ops.reports import OWN, Row, rows

INSTANCES_MAX = 1_000
POINTS_MAX = 480  # of an instance's recent history
LABELLED_MAX = 4_096  # rows with labels in one report
COUNTED = ("readings_total", "forecasts_total", "messages_total")
TIME_MAX_S = 253_402_300_800.0


@dataclass(slots=True)
class Instance:
    """The newest report of a process, and figures of those before."""

    name: str
    role: str
    group: str
    seen_at: float = 0.0  # the time of the report
    fields: dict[str, float] = field(default_factory=dict)  # metrics without labels
    labelled: list[Row] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)  # growth of COUNTED a second
    points: deque[tuple[float, dict[str, float]]] = field(
        default_factory=lambda: deque(maxlen=POINTS_MAX)
    )

    def table(self, name: str, label: str) -> dict[str, float]:
        """The values of a metric with one label."""
        found = {
            row.tags[label]: row.fields[name]
            for row in self.labelled
            if label in row.tags and name in row.fields
        }
        return dict(sorted(found.items()))

    @property
    def version(self) -> str:
        """Of the program; empty if it is not reported."""
        return next((r.tags["version"] for r in self.labelled if "build_info" in r.fields), "")

    @property
    def partitions(self) -> dict[str, float]:
        """The lag of each partition that it holds, by `topic/number`."""
        found = {
            f"{row.tags['topic']}/{row.tags['partition']}": row.fields["consumer_lag_messages"]
            for row in self.labelled
            if "consumer_lag_messages" in row.fields and {"topic", "partition"} <= row.tags.keys()
        }
        return dict(sorted(found.items(), key=lambda each: natural(each[0])))

    @property
    def phase(self) -> str:
        """The phase that it reports; empty if it does not."""
        return next((name for name, on in self.table("phase", "phase").items() if on), "")


class InstanceBook:
    """Processes by name and role; those not seen for longest go first."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Instance] = {}
        self.junk: Counter[str] = Counter()

    def read(self, records: Iterable[Record]) -> None:
        """Take in *records* of the metrics topic."""
        for record in records:
            found = rows(record.value)
            if not found or len(found) > LABELLED_MAX:
                self.junk["not_a_report"] += 1
                continue
            tags = found[0].tags
            name, role = tags.get("instance", ""), tags.get("role", "")
            if not name or not role or not 0 < found[0].time_s < TIME_MAX_S:
                self.junk["not_a_report"] += 1
                continue
            self._take(name, role, tags.get("group", ""), found)
        if len(self.known) > INSTANCES_MAX:
            oldest = sorted(self.known, key=lambda key: self.known[key].seen_at)
            for key in oldest[: len(self.known) - INSTANCES_MAX]:
                del self.known[key]

    def _take(self, name: str, role: str, group: str, found: list[Row]) -> None:
        instance = self.known.setdefault((name, role), Instance(name, role, group))
        time_s = found[0].time_s
        if time_s <= instance.seen_at:
            return
        fields: dict[str, float] = {}
        for row in found:
            if all(tag in OWN for tag in row.tags):
                fields |= row.fields
        instance.rates = rates_between(instance.fields, fields, time_s - instance.seen_at)
        instance.fields, instance.seen_at, instance.group = fields, time_s, group
        instance.labelled = [row for row in found if not all(tag in OWN for tag in row.tags)]
        levels = {name: fields[name] for name in ("lag_messages", "flows") if name in fields}
        instance.points.append((time_s, levels | instance.rates))


def rates_between(
    before: Mapping[str, float], after: Mapping[str, float], seconds: float
) -> dict[str, float]:
    """The growth a second of counters; none of one that restarted."""
    same = before.get("start_time_seconds") == after.get("start_time_seconds")
    return {
        name: (after[name] - before[name]) / seconds
        for name in COUNTED
        if same and seconds > 0 and name in before and name in after and after[name] >= before[name]
    }


def natural(text: str) -> tuple[str, int]:
    """The order of `topic/10` after `topic/9`."""
    topic, _, number = text.rpartition("/")
    return topic, int(number) if number.isdigit() and len(number) < 10 else 0
