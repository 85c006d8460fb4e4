"""Whether the service is healthy: findings from what the log shows, the worst one first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from streamer.console.instances import Instance
from streamer.console.scores import ratios
from streamer.console.store import Store
from streamer.text.format import span

Severity = Literal["critical", "warning", "info", "ok"]

ORDER: tuple[Severity, ...] = ("critical", "warning", "info", "ok")
SILENT_S = 60.0  # beyond three reports or steps that did not come
GONE_S = 3600.0  # an instance that is silent for longer has been shut down
REJECTS_S = 600.0  # how far back rejects are news
HOURLY_S = 3600.0


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong, or worth knowing, and the page that shows more."""

    severity: Severity
    text: str
    page: str


def findings(store: Store) -> list[Finding]:
    """All of them, the worst first; never empty. The caller holds the store's lock."""
    now_s = store.now()
    found = [
        *_reading(store, now_s),
        *_instances(store, now_s),
        *_coverage(store),
        *_alerts(store),
        *_rejects(store, now_s),
        *_models(store, now_s),
    ]
    found.sort(key=lambda finding: ORDER.index(finding.severity))
    if not found or ORDER.index(found[0].severity) > 1:
        found.insert(0, _healthy(store))
    return found


def _reading(store: Store, now_s: float) -> Iterator[Finding]:
    """The log, and the forecasts on it."""
    forecasts = store.topics["forecasts"]
    for topic in store.topics.values():
        if topic.state == "unavailable":
            yield Finding("critical", f"The log cannot be read: {topic.reason}", "./")
            break
    if forecasts.state == "missing":
        yield Finding("critical", f"The topic {forecasts.name} does not exist.", "./")
    for role in ("scores", "models", "alerts"):
        topic = store.topics[role]
        if topic.state == "missing" and (role != "alerts" or store.config.alerts.enabled):
            yield Finding("warning", f"The topic {topic.name} does not exist.", "./")
    if forecasts.state == "catching_up":
        left = f"{forecasts.behind:,} records are left"
        yield Finding("info", f"The console is reading the last forecasts; {left}.", "./")
    elif forecasts.state == "following":
        yield from _following(store, now_s)


def _following(store: Store, now_s: float) -> Iterator[Finding]:
    """How new the newest forecast is."""
    forecasts = store.topics["forecasts"]
    if not forecasts.newest_ms:
        waiting = f"No forecast has been published to {forecasts.name} in the last"
        yield Finding("warning", f"{waiting} {span(store.config.console.keep)}.", "./")
        return
    age_s = now_s - forecasts.newest_ms / 1000
    if age_s > 3 * store.shape.step_s + SILENT_S:
        step = span(store.shape.step_s)
        text = f"No forecast has come for {about(age_s)}; a step is {step} long."
        yield Finding("critical", text, "input")
    ignored = sum(forecasts.junk.values())
    if ignored:
        text = f"{ignored:,} records of {forecasts.name} are no forecasts of these settings."
        yield Finding("info", text, "input")


def _instances(store: Store, now_s: float) -> Iterator[Finding]:
    """Processes that stopped reporting, or that lag behind."""
    every_s = float(store.config.metrics.every)
    for instance in store.instances.known.values():
        name = f"{instance.role} {instance.name}"
        age_s = now_s - instance.seen_at
        if 3 * every_s + SILENT_S < age_s < GONE_S:
            yield Finding("warning", f"The {name} has not reported for {about(age_s)}.", "./")
            continue
        if age_s >= GONE_S:
            continue
        late = lateness(instance)
        if late is not None and late[1] > 3 * store.shape.step_s + SILENT_S:
            text = f"The {name} is {about(late[1])} behind on {late[0]}."
            yield Finding("warning", text, "input")


def lateness(instance: Instance) -> tuple[str, float] | None:
    """The partition that an instance is furthest behind on, in seconds."""
    found = [
        (f"{row.tags['topic']}/{row.tags['partition']}", row.fields["consumer_lag_seconds"])
        for row in instance.labelled
        if "consumer_lag_seconds" in row.fields and {"topic", "partition"} <= row.tags.keys()
    ]
    return max(found, key=lambda each: each[1], default=None)


def _coverage(store: Store) -> Iterator[Finding]:
    """The promise of the bands."""
    aim = store.config.objective
    total: dict[str, float] = {}
    for sums in store.scores.horizons("all").values():
        for name in ("forecasts", "covered"):
            total[name] = total.get(name, 0) + sums[name]
    if total.get("forecasts", 0) < aim.forecasts_min:
        return
    share = total["covered"] / total["forecasts"]
    if not aim.coverage_min <= share <= aim.coverage_max:
        aimed = f"{aim.coverage_min:.0%} to {aim.coverage_max:.0%}"
        text = f"The 90 % bands hold {share:.1%} of the rates instead of {aimed}."
        yield Finding("warning", text, "./")


def _alerts(store: Store) -> Iterator[Finding]:
    """What the rules report of the traffic."""
    firing = store.alerts.firing()
    critical = [alert for alert in firing if alert.severity == "critical"]
    for some, severity in ((critical, "warning"), (firing, "info")):
        if some:
            which = "critical alert" if some is critical else "alert"
            number = f"1 {which} is" if len(some) == 1 else f"{len(some):,} {which}s are"
            yield Finding(severity, f"{number} firing: {some[0].text}", "alerts")  # type: ignore[arg-type]
            return


def _rejects(store: Store, now_s: float) -> Iterator[Finding]:
    """Input that was no reading."""
    recent = [r for r in store.rejects.sample if now_s - r.time_ms / 1000 < REJECTS_S]
    if recent:
        more = "or more " if len(recent) == store.rejects.sample.maxlen else ""
        last = recent[-1].reason
        text = f"{len(recent)} {more}records were rejected in the last 10 min, the last as {last}."
        yield Finding("info", text, "input")


def _models(store: Store, now_s: float) -> Iterator[Finding]:
    """A generation that was rolled back."""
    if not store.models.changes:
        return
    time_ms, newest = store.models.changes[-1]
    if newest.reason == "rolled_back" and now_s - time_ms / 1000 < 24 * HOURLY_S:
        text = f"Generation {newest.previous} was rolled back; {newest.generation} serves again."
        yield Finding("info", text, "models")


def about(seconds: float) -> str:
    """A length of time to two digits."""
    return span(seconds, 2)


def _healthy(store: Store) -> Finding:
    """The sentence when nothing is wrong."""
    flows = len(store.flows)
    if not flows:
        return Finding("ok", "Nothing is wrong; no flow has been forecast yet.", "./")
    horizons = store.scores.horizons("all")
    total = sum(sums["forecasts"] for sums in horizons.values())
    named = "1 flow is" if flows == 1 else f"{flows:,} flows are"
    if not total:
        return Finding("ok", f"Nothing is wrong: {named} forecast.", "flows")
    covered = ratios({"error": 0.0, "width": 0.0} | _pooled(horizons))["coverage"] or 0.0
    text = f"Nothing is wrong: {named} forecast, and the bands hold {covered:.1%} of the rates."
    return Finding("ok", text, "flows")


def _pooled(horizons: dict[int, dict[str, float]]) -> dict[str, float]:
    return {
        name: sum(sums[name] for sums in horizons.values()) for name in ("forecasts", "covered")
    }
