"""
The metrics of a process: each named once, and computed from its counts when they are read.

A turn adds to counts that `Telemetry` keeps anyway. `collect` turns those counts, the levels of
the newest turn and a few tables with labels into metrics, in the thread that asked for them, so a
turn pays for five histogram observations and nothing else. Labels have few values: topics,
partitions, horizons and the program's own words. No label is a flow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client import disable_created_metrics as without_created
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

PREFIX = "streamer_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)

Table = Mapping[tuple[str, ...], float]  # values by their labels


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric without its prefix, what it means, and the names of its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


def by(name: str, label: str, text: str) -> Metric:
    """A metric with one label."""
    return Metric(name, text, (label,))


FORECASTER_COUNTS = {  # by the count, or by its part before the dot, whose rest is the label
    "turns": Metric("turns", "Turns in which anything was done."),
    "records": Metric("messages", "Records read from the input topics."),
    "readings": Metric("readings", "Readings found in the records."),
    "forecasts": Metric("forecasts", "Forecasts published, one for each closed step of a flow."),
    "rejected": by("messages_invalid", "reason", "Records or elements that are not readings."),
    "skipped": Metric("elements_skipped", "Well-formed elements that contain no traffic."),
    "verdict": by("verdicts", "verdict", "Readings by how they relate to the previous one."),
    "capacity_ignored": Metric("capacities_ignored", "Readings whose link capacity is absurd."),
    "unit_changed": Metric("units_changed", "Readings whose unit differs from the previous one."),
    "readings_in_other": Metric(
        "readings_in_other", "Readings of flow records whose key has no flow of its own."
    ),
    "evicted": Metric("evicted", "Flows evicted because their partition was full."),
    "flows_reset": Metric("flows_reset", "Flows that started again because a record failed."),
    "flows_in_two_partitions": Metric("flows_in_two_partitions", "Flows met in two partitions."),
    "flows_two_sources": Metric("flows_two_sources", "Flows that two counters alternate under."),
    "pages": Metric("checkpoint_records", "Records written to the state topic."),
    "pages_taken_up": Metric("rollout_pages", "Pages migrated to another generation."),
    "pages_unreadable": Metric("restore_pages_unreadable", "Pages that a restore could not read."),
    "rows_dropped": Metric("restore_rows_dropped", "Saved rows that were not valid."),
    "rows_rebuilt": Metric("restore_rows_rebuilt", "Saved rows that were computed again in part."),
    "rows_kept": Metric("restore_rows_kept", "Saved rows kept although a setting changed."),
    "records_replayed": Metric("restore_records_replayed", "Records read again by restores."),
    "scores": Metric("score_records", "Records written to the scores topic."),
    "records_lost": Metric("messages_lost", "Records that the log deleted before they were read."),
    "partitions_unplaced": Metric("partitions_unplaced", "Partitions that only the input has."),
    "generations_refused": Metric("generations_refused", "Records of the models topic not valid."),
    "turns_failed": Metric("turns_failed", "Turns that raised an exception."),
    "records_failed": by("records_failed", "action", "Records that raised, by what was done."),
}  # fmt: skip
TRAINER_COUNTS = {
    "records": Metric("messages", "Records read from the input topics."),
    "finetune_runs": Metric("finetune_runs", "Challengers that were trained and judged."),
    "finetune_rejected": by("finetune_rejected", "reason", "Challengers that were not promoted."),
    "rollbacks": Metric("rollbacks", "Generations rolled back because they did worse."),
    "generations_refused": Metric("generations_refused", "Records of the models topic not valid."),
}
CONSOLE_COUNTS = {
    "read": by("console_records", "topic", "Records read, by what the topic holds."),
    "ignored": by("console_records_ignored", "topic", "Records that were not usable, likewise."),
    "requests": by("console_requests", "status", "HTTP requests, by the status of the answer."),
}
NOTIFIER_COUNTS = {
    "records": Metric("messages", "Records read from the alerts topic."),
    "unreadable": Metric("messages_invalid", "Records of the alerts topic that are not alerts."),
    "alerts_sent": by("alerts_sent", "receiver", "Alerts that a receiver took, repeats included."),
    "alerts_refused": by("alerts_refused", "receiver", "Alerts that a receiver will not take."),
    "alerts_withheld": by("alerts_withheld", "rule", "Alerts held back by their rule."),
    "deliveries_failed": by(
        "deliveries_failed", "receiver", "Requests that failed and are tried again."
    ),
}
REKEYER_COUNTS = {
    name: FORECASTER_COUNTS[name]
    for name in (
        *("turns", "records", "readings", "rejected", "skipped", "capacity_ignored"),
        *("readings_in_other", "records_lost", "partitions_unplaced"),
    )
}
COMMON_COUNTS = {
    "log_errors": by("log_errors", "kind", "Failed operations on the log, each tried again."),
    "metrics_dropped": Metric("metrics_dropped", "Reports that the metrics topic did not take."),
    "http_refused": Metric("http_refused", "HTTP connections refused at the limit."),
}
OTHER = by("events", "event", "Counts of turns.summary that have no metric of their own.")

FORECASTER_LEVELS = {
    "flows": Metric("flows", "Flows that have a row."),
    "partitions": Metric("partitions", "Input partitions that this instance holds."),
    "lag": Metric("lag_messages", "Records that no turn has taken yet."),
    "coverage": Metric("coverage_ratio", "Share of rates within the 90 % bands, all horizons."),
    "error": Metric("error_ratio", "Error of the median over the flow's usual rate."),
    "skill": Metric("skill_ratio", "1 - error / error of the best baseline, compressed space."),
    "generation": Metric("generation", "Generation of weights that the newest forecasts used."),
    "pages_stale": Metric("rollout_pages_left", "Pages not yet of the incumbent's generation."),
    "checkpoint_at": Metric("checkpoint_last_timestamp_seconds", "Time of the last state record."),
    "objective_missed": Metric("objective_missed", "1 while coverage is out of its range."),
}
TRAINER_LEVELS = {
    "active": Metric("trainer_active", "1 if this trainer learns, 0 if another one does."),
    "flows": Metric("trainer_flows", "Flows in the sample that is learned from."),
    "event_time": Metric("trainer_event_timestamp_seconds", "Event time read up to."),
    "finetune_seconds": Metric("finetune_duration_seconds", "Duration of the last fine-tuning."),
    "promoted_at": Metric(
        "finetune_last_success_timestamp_seconds", "Time of the last promotion by this process."
    ),
    "gain": Metric("finetune_gain_ratio", "Share of loss that the last challenger saved."),
    "generation": Metric("generation", "Generation of the incumbent."),
}
CONSOLE_LEVELS = {
    "flows": Metric("console_flows", "Flows that the console knows."),
    "behind": Metric("console_behind_messages", "Records still to read since the start."),
}
NOTIFIER_LEVELS = {
    "partitions": Metric("partitions", "Partitions of the alerts topic that this instance holds."),
    "lag": Metric("lag_messages", "Records between what is read and the end of the log."),
    "firing": Metric("alerts_firing", "Alerts that fire, in the partitions that it holds."),
}
NOTIFIER_TABLES = {
    "queue": by("delivery_queue_alerts", "receiver", "Alerts that are due and not sent."),
    "waiting": by(
        "delivery_waiting_seconds", "receiver", "For how long something has been due; 0: nothing."
    ),
    "up": by("receiver_up", "receiver", "1 if the newest request was answered."),
}
REKEYER_LEVELS = {
    "partitions": Metric("partitions", "Input partitions that this instance holds."),
    "lag": Metric("lag_messages", "Records between what is read and the end of the log."),
    "held": Metric("rekeyer_held_messages", "Records that wait for older ones of others."),
}
TABLES = {
    "phase": by("phase", "phase", "1 for the phase that the forecaster is in."),
    "lag": Metric(
        "consumer_lag_messages",
        "Records that no turn has taken yet, by partition.",
        ("topic", "partition"),
    ),
    "lag_s": Metric(
        "consumer_lag_seconds",
        "Age of the last record read, by partition; 0 where nothing is left to read.",
        ("topic", "partition"),
    ),
    "newest": Metric(
        "last_message_timestamp_seconds",
        "Timestamp of the last record read, by partition.",
        ("topic", "partition"),
    ),
    "error": by("forecast_error_ratio", "horizon", "Error of the median over the usual rate."),
    "coverage": by("forecast_coverage_ratio", "horizon", "Share of rates in the 90 % bands."),
    "skill": by("forecast_skill_ratio", "horizon", "1 - error / the best baseline's."),
}
ALL_TABLES = TABLES | NOTIFIER_TABLES
HISTOGRAMS = {
    "turn": (Metric("turn_duration_seconds", "Duration of a turn that did anything."), FAST_S),
    "step": (Metric("forecast_duration_seconds", "Its part: computing the forecasts."), FAST_S),
    "publish": (Metric("publish_duration_seconds", "Its part: encoding and commit."), FAST_S),
    "latency": (
        Metric("end_to_end_latency_seconds", "From a record's timestamp to its commit."),
        SLOW_S,
    ),
    "restore": (Metric("restore_duration_seconds", "Duration of a partition's restore."), SLOW_S),
}
BUILD = Metric("build_info", "1, with the version and the role.", ("version", "role"))
START = Metric("start_time_seconds", "Time at which the process began to count.")
ROLES: Mapping[str, tuple[Mapping[str, Metric], Mapping[str, Metric]]] = {
    "forecaster": (FORECASTER_COUNTS | COMMON_COUNTS, FORECASTER_LEVELS),
    "trainer": (TRAINER_COUNTS | COMMON_COUNTS, TRAINER_LEVELS),
    "notifier": (NOTIFIER_COUNTS | COMMON_COUNTS, NOTIFIER_LEVELS),
    "rekeyer": (REKEYER_COUNTS | COMMON_COUNTS, REKEYER_LEVELS),
    "console": (CONSOLE_COUNTS, CONSOLE_LEVELS),
}


class Metrics(Collector):
    """
    The registry of one process.

    *counts* and *levels* are read, never written: they belong to the loop that adds to them. A
    key of *counts* with a dot is a count with a label: `rejected.not_json`. *known* lists the
    labels that are shown as zero before anything was counted.
    """

    def __init__(  # noqa: PLR0913 - who it is, and what it reads
        self,
        role: str,
        version: str,
        counts: Mapping[str, int],
        levels: Mapping[str, float],
        known: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.role, self.version = role, version
        self._counts, self._levels, self._known = counts, levels, tuple(known)
        self._count_names, self._level_names = ROLES[role]
        self.levels: dict[str, float] = {}  # more levels, which are in no log line
        self.tables: dict[str, Callable[[], Table]] = {}  # by a name in ALL_TABLES
        self.started_at = clock()
        # A series with the start of each counter would double their number.
        without_created()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        self.histograms: dict[str, Histogram] = {}
        if role == "forecaster":
            for name, (metric, buckets) in HISTOGRAMS.items():
                self.histograms[name] = Histogram(
                    PREFIX + metric.name, metric.help, registry=self.registry, buckets=buckets
                )
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Family]:
        """The metrics that counts, levels and tables become."""
        yield gauge(BUILD, {(self.version, self.role): 1})
        yield gauge(START, {(): self.started_at})
        yield from self._counters(dict(self._counts))  # a copy in one step: the loop goes on
        levels = dict(self._levels) | dict(self.levels)
        for name, metric in self._level_names.items():
            if name in levels:
                yield gauge(metric, {(): levels[name]})
        for name, table in list(self.tables.items()):
            yield gauge(ALL_TABLES[name], table())

    def _counters(self, counts: dict[str, int]) -> Iterator[Family]:
        values: dict[str, dict[tuple[str, ...], float]] = {
            name: {} if metric.labels else {(): 0.0} for name, metric in self._count_names.items()
        }
        other: dict[tuple[str, ...], float] = {}
        for key, number in {**dict.fromkeys(self._known, 0), **counts}.items():
            name, _, label = key.partition(".")
            metric = self._count_names.get(name)
            if metric is None or bool(label) != bool(metric.labels):
                other[key,] = number
            else:
                values[name][(label,) if label else ()] = number
        for name, found in values.items():
            yield counter(self._count_names[name], found)
        yield counter(OTHER, other)


def gauge(metric: Metric, table: Table) -> Family:
    """A gauge with a value for each tuple of labels."""
    family = GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
    for labels, value in table.items():
        family.add_metric(labels, value)
    return family


def counter(metric: Metric, table: Table) -> Family:
    """A counter likewise; its name gets `_total`."""
    family = CounterMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
    for labels, value in table.items():
        family.add_metric(labels, value)
    return family


def names() -> dict[str, str]:
    """Every metric's full name with its type, of all roles."""
    found = {PREFIX + metric.name: "gauge" for metric in (BUILD, START, *ALL_TABLES.values())}
    for counts, levels in ROLES.values():
        found |= {f"{PREFIX}{metric.name}_total": "counter" for metric in counts.values()}
        found |= {PREFIX + metric.name: "gauge" for metric in levels.values()}
    found[f"{PREFIX}{OTHER.name}_total"] = "counter"
    found |= {PREFIX + metric.name: "histogram" for metric, _ in HISTOGRAMS.values()}
    return found
