"""Metrics have one name each, a help, few labels, and the values of the counts."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections import Counter
from unittest.mock import Mock

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.cli._service import KNOWN, ForecasterMetrics
from streamer.core.types import Forecasts, Partition, StateRecord, TurnResult
from streamer.daemon.events import Phase, Return, Turn
from streamer.ops.coverage_slo import CoverageSLO, ObjectiveConfig
from streamer.ops.metrics import PREFIX, ROLES, Metrics, names
from tests.ops.test_coverage_slo import score

P = Partition("counters", 3)


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def made(generation: int) -> Forecasts:
    return Forecasts([], [], None, None, None, None, None, [], generation)


def forecaster(counts, levels=None):
    objective = CoverageSLO(ObjectiveConfig(), Mock())
    metrics = Metrics("forecaster", "1.2.3", counts, levels or {}, KNOWN["forecaster"])
    return metrics, ForecasterMetrics(metrics, objective), objective


def test_counts_become_counters():
    """A part behind the dot is a label; what is known and zero is shown; the rest is not lost."""
    counts = Counter({"readings": 7, "rejected.not_json": 2, "verdict.rated": 5, "invented": 3})
    metrics, _, _ = forecaster(counts, {"flows": 4, "lag": 9})
    shown = values(metrics)
    assert shown["streamer_readings_total",] == 7
    assert shown["streamer_messages_invalid_total", "not_json"] == 2
    assert shown["streamer_messages_invalid_total", "future"] == 0
    assert shown["streamer_verdicts_total", "rated"] == 5
    assert shown["streamer_events_total", "invented"] == 3
    assert shown["streamer_flows",] == 4
    assert shown["streamer_lag_messages",] == 9
    assert shown["streamer_build_info", "forecaster", "1.2.3"] == 1
    counts["readings"] += 1
    assert values(metrics)["streamer_readings_total",] == 8


def test_a_turn_is_observed():
    """Durations, lag by partition, the generation, and the time of the last checkpoint."""
    metrics, turns, objective = forecaster(Counter())
    objective.observe([score(1, 18_000, 20_000)])
    turns.moved(Phase.RUNNING)
    entry = StateRecord(P, b"page", b"")
    turns.turned(
        Turn(
            TurnResult([made(4)], [], [entry], {P: 8}, [], {"records": 3}),
            flows=2,
            took_s=0.2,
            lag={P: 5},
            step_s=0.1,
            publish_s=0.05,
            newest_ms={P: 1_700_000_000_000},
            pages_stale=6,
        )
    )
    turns.restored(Return(P, 2, 10, (), 1.5))
    shown = values(metrics)
    assert shown["streamer_turn_duration_seconds_sum",] == 0.2
    assert shown["streamer_forecast_duration_seconds_sum",] == 0.1
    assert shown["streamer_publish_duration_seconds_sum",] == 0.05
    assert shown["streamer_restore_duration_seconds_sum",] == 1.5
    assert shown["streamer_consumer_lag_messages", "3", "counters"] == 5
    assert shown["streamer_consumer_lag_seconds", "3", "counters"] > 1e6
    assert shown["streamer_last_message_timestamp_seconds", "3", "counters"] == 1_700_000_000
    assert shown["streamer_end_to_end_latency_seconds_count",] == 1
    assert shown["streamer_rollout_pages_left",] == 6
    assert shown["streamer_generation",] == 4
    assert shown["streamer_checkpoint_last_timestamp_seconds",] > 1_700_000_000
    assert shown["streamer_phase", "running"] == 1
    assert shown["streamer_phase", "starting"] == 0
    assert shown["streamer_forecast_coverage_ratio", "1"] == 0.9


def test_a_partition_that_went_away_is_shown_no_more():
    """Another instance shows it; an idle turn is not observed as a short one."""
    metrics, turns, _ = forecaster(Counter())
    idle = TurnResult([], [], [], {}, [], {"records": 0})
    turns.turned(Turn(idle, 0, 0.1, {P: 0}, newest_ms={P: 1000}))
    turns.turned(Turn(idle, 0, 0.1, {}))
    shown = values(metrics)
    assert not [key for key in shown if "counters" in key]
    assert shown["streamer_turn_duration_seconds_count",] == 0


@pytest.mark.parametrize("role", sorted(ROLES))
def test_names_are_as_prometheus_wants_them(role, tmp_path):
    """Prefix, snake case, base units, a help; `promtool` agrees where it is installed."""
    counts, levels = ROLES[role]
    seen = dict.fromkeys(counts, 1) | {f"{name}.x": 1 for name in counts}
    metrics = Metrics(role, "1", Counter(seen), dict.fromkeys(levels, 1.0))
    text = metrics.text().decode()
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    own = [family for family in families if not family.name.startswith("process_")]
    assert all(re.fullmatch(PREFIX + "[a-z][a-z_]*[a-z]", family.name) for family in own)
    assert len({family.name for family in families}) == len(families)
    exported = {family.name + "_total" * (family.type == "counter") for family in own}
    assert exported <= set(names())
    promtool = shutil.which("promtool")
    if promtool is not None:
        done = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_label_grows_with_the_traffic():
    """Labels are the program's own words, topics, partitions, horizons and versions."""
    allowed = {"reason", "verdict", "action", "kind", "event", "phase", "horizon", "le"}
    allowed |= {"topic", "partition", "version", "role"}
    metrics, turns, _ = forecaster(Counter({"rejected.unit": 1}))
    turns.turned(Turn(TurnResult([], [], [], {}, [], {}), 0, 0.1, {P: 0}, newest_ms={P: 1}))
    shown = {
        label
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        for label in sample.labels
    }
    assert shown <= allowed


def test_reading_them_while_the_loop_counts_disturbs_neither():
    """A new key while metrics are rendered, again and again."""
    counts: Counter[str] = Counter()
    metrics, _, _ = forecaster(counts)
    ended = threading.Event()
    failures = []

    def scrape():
        while not ended.is_set():
            try:
                metrics.text()
            except RuntimeError as error:
                failures.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    for number in range(100_000):
        counts[f"rejected.{number % 5000}"] += 1
    ended.set()
    thread.join()
    assert failures == []
