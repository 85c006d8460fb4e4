"""The contents of the store as responses of the API: each holds the lock briefly and copies."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from streamer.console.alerts import Alert
from streamer.console.codes import MISSING, Codes, Doubles, decoded
from streamer.console.condition import GONE_S, findings, lateness
from streamer.console.decoding import PEAK_LEVELS
from streamer.console.flows import SPIKE, distribution
from streamer.console.instances import Instance
from streamer.console.payloads import (
    AlertsView,
    Chance,
    FlowView,
    GenerationScore,
    HorizonScore,
    IncumbentChange,
    InputView,
    InstanceView,
    LedgerRow,
    ModelsView,
    Peak,
    PeriodScore,
    Quantile,
    RejectView,
    Status,
    TopicProgress,
)
from streamer.console.scores import add, ratios
from streamer.console.store import Store, Topic
from streamer.core.alerts.ledger import precision, recall
from streamer.core.alerts.peak import chance

PERIODS_MAX = 400
SILENT = 3  # reports that did not come
SAMPLE_MAX = 50


def number(value: object) -> float | None:
    """A float that JSON has, to six digits; None for NaN."""
    found = float(value)  # type: ignore[arg-type]  # numpy's scalars
    return float(f"{found:.6g}") if math.isfinite(found) else None


def numbers(values: object) -> list[float | None]:
    """The same for an array."""
    return [number(each) for each in np.asarray(values, np.float64).tolist()]


def progress(topic: Topic) -> TopicProgress:
    """How far *topic* was read."""
    return TopicProgress(
        role=topic.role,
        topic=topic.name,
        state=topic.state,
        reason=topic.reason,
        share=round(topic.share, 4),
        records=topic.records,
        newest=topic.newest_ms / 1000 or None,
        ignored=dict(topic.junk),
    )


def status(store: Store, version: str) -> Status:
    """The overview."""
    with store.lock:
        found = findings(store)
        used = store.flows.used()
        made_at = store.flows.columns["made_at"][used]
        step_s = store.shape.step_s
        return Status(
            now=store.now(),
            severity=found[0].severity,
            sentence=found[0].text,
            findings=found,
            group=store.config.group,
            version=version,
            started_at=store.started_at,
            step_s=step_s,
            ahead_s=store.shape.ahead * step_s,
            made_at=int(made_at.max()) if len(made_at) else None,
            flows=len(used),
            forecasts=store.flows.forecasts,
            evicted=store.flows.evicted,
            topics=[progress(topic) for topic in store.topics.values()],
            horizons=[
                HorizonScore(**scored(sums, horizon * step_s))
                for horizon, sums in store.scores.horizons("all").items()
            ],
            periods=periods(store),
            coverage_min=store.config.objective.coverage_min,
            coverage_max=store.config.objective.coverage_max,
            instances=[instance(store, each) for each in known(store)],
            alerts=dict(Counter(alert.severity for alert in store.alerts.firing())),
            rejects=dict(store.rejects.counts.most_common()),
        )


def scored(sums: dict[str, float], ahead_s: int) -> dict[str, Any]:
    """The fields of a score."""
    return {"ahead_s": ahead_s, "forecasts": round(sums["forecasts"])} | {
        name: None if value is None else number(value) for name, value in ratios(sums).items()
    }


def nearest_horizon(store: Store) -> int | None:
    """The scored horizon nearest to that of the table of flows."""
    every = store.scores.horizons("all")
    return min(every, key=lambda h: abs(math.log(h / store.shape.ahead)), default=None)


def periods(store: Store) -> list[PeriodScore]:
    """The newest periods."""
    horizon = nearest_horizon(store)
    if horizon is None:
        return []
    every = list(store.scores.periods("all", horizon).items())[-PERIODS_MAX:]
    ahead_s = horizon * store.shape.step_s
    return [
        PeriodScore(ends_at=ends_at, generation=generation, **scored(sums, ahead_s))
        for (ends_at, generation), sums in every
    ]


def known(store: Store) -> list[Instance]:
    """Instances that reported within GONE_S, in order."""
    since = store.now() - GONE_S
    found = [each for each in store.instances.known.values() if each.seen_at >= since]
    return sorted(found, key=lambda each: (each.role, each.name))


def instance(store: Store, found: Instance) -> InstanceView:
    """A process."""
    fields = found.fields
    late = lateness(found)
    points = list(found.points)

    def value_of(name: str) -> float | None:
        return fields.get(name)

    return InstanceView(
        name=found.name,
        role=found.role,
        version=found.version,
        phase=found.phase,
        seen_at=found.seen_at,
        silent=store.now() - found.seen_at > SILENT * store.config.metrics.every,
        partitions=found.partitions,
        lag=value_of("lag_messages"),
        lag_s=None if late is None else late[1],
        flows=value_of("flows") if "flows" in fields else value_of("trainer_flows"),
        generation=value_of("generation"),
        readings_per_s=found.rates.get("readings_total"),
        forecasts_per_s=found.rates.get("forecasts_total"),
        memory_bytes=value_of("process_resident_memory_bytes"),
        times=[at for at, _ in points],
        lags=[values.get("lag_messages") for _, values in points],
    )


def flow(store: Store, name: str) -> FlowView | None:
    """One flow; None if it is unknown."""
    with store.lock:
        table, shape = store.flows, store.shape
        slot = table.slots.get(name)
        if slot is None:
            return None
        row = {column: values[slot] for column, values in table.columns.items()}
        steps, rates, predicted = table.history.whole(slot)
        bands, peaks = decoded(table.bands[slot]), decoded(table.peaks[slot])
        alerts = store.alerts.of_flow(name)
        unit, served = table.units.texts[row["unit"]], table.predictors.texts[row["served_by"]]
    first = first_known(rates, predicted)
    low, middle, high = shape.outer
    return FlowView(
        now=store.now(),
        flow=name,
        unit=unit,
        partition=int(row["partition"]),
        step_s=shape.step_s,
        ahead_s=shape.ahead * shape.step_s,
        made_at=int(row["made_at"]),
        rate=number(row["rate"]),
        mean=number(row["mean"]),
        high=number(row["high"]) or None,
        error=share(row["error"], row["mean"]),
        skill=skill(row["error"], row["error_last"]),
        coverage=number(row["held"]),
        scored=int(row["scored"]),
        chance=number(row["chance"]),
        unusual=number(row["unusual"]),
        served_by=served,
        generation=int(row["generation"]),
        first_at=int(steps[first]) * shape.step_s,
        rates=numbers(decoded(rates[first : len(rates) - shape.ahead])),
        levels=[shape.quantiles[place] for place in (low, middle, high)],
        predicted=[numbers(each) for each in decoded(predicted[first:]).T],
        quantiles=[
            Quantile(level=level, rates=numbers(each))
            for level, each in zip(shape.quantiles, bands, strict=True)
        ],
        peaks=[
            Peak(span_s=span * shape.step_s, levels=list(PEAK_LEVELS), rates=numbers(each))
            for span, each in zip(shape.spans, peaks, strict=True)
        ],
        chances=chances(store, bands, peaks, float(row["high"]), capacity_of(alerts)),
        alerts=alerts[:SAMPLE_MAX],
        verdicts=dict(Counter(each.verdict for each in alerts if each.verdict)),
    )


def first_known(rates: Codes, predicted: Codes) -> int:
    """The place of the first step of which anything is known."""
    known = (rates != MISSING) | (predicted != MISSING).any(axis=1)
    return int(np.argmax(known)) if known.any() else len(known) - 1


def share(part: float, whole: float) -> float | None:
    """*part* over *whole*; None where it is unknown."""
    return number(part / whole) if whole > 0 else None


def skill(error: float, naive: float) -> float | None:
    """The share of the naive error that the forecast saves."""
    return number(1 - error / naive) if naive > 0 else None


def capacity_of(alerts: list[Alert]) -> float | None:
    """The link's capacity from the newest alert that has one."""
    return next((alert.capacity for alert in alerts if alert.capacity), None)


def chances(
    store: Store, bands: Doubles, peaks: Doubles, high: float, capacity: float | None
) -> list[Chance]:
    """The chances that the peak passes the recent high, multiples of it, and the capacity."""
    wanted = [("recent high", high), ("1.5 times", 1.5 * high), (f"{SPIKE:g} times", SPIKE * high)]
    if capacity:
        wanted.append(("90 % of capacity", 0.9 * capacity))
    levels, quantiles = distribution(store.shape, bands[None], peaks[None])
    return [
        Chance(name=name, rate=rate, chance=number(chance(levels, quantiles, np.array([rate]))[0]))
        for name, rate in wanted
        if rate > 0
    ]


def alerts(  # noqa: PLR0913 - what is chosen, and which page of it
    store: Store, *, state: str, rule: str, search: str, page: int, size: int
) -> AlertsView:
    """Alerts of a *state* (firing, resolved or all), of a *rule*, whose flows contain *search*."""
    with store.lock:
        book = store.alerts
        firing = book.firing()
        if state == "firing":
            found = firing
        else:
            newest = {alert.id: alert for alert in book.changes}
            newest |= {alert.id: alert for alert in book.current.values()}
            found = sorted(newest.values(), key=lambda alert: -alert.updated_at)
            found = [each for each in found if state in ("all", each.state)]
        rules = sorted(
            {alert.rule for alert in book.current.values()} | store.scores.ledger().keys()
        )
        ledger = [ledger_row(name, counts) for name, counts in store.scores.ledger().items()]
        until = store.scores.newest or None
        topic = progress(store.topics["alerts"])
    folded = search.casefold()
    chosen = [a for a in found if rule in ("", a.rule) and folded in a.flow.casefold()]
    return AlertsView(
        now=store.now(),
        enabled=store.config.alerts.enabled,
        topic=topic,
        firing=len(firing),
        matched=len(chosen),
        page=page,
        size=size,
        rules=rules,
        alerts=chosen[(page - 1) * size : page * size],
        ledger=ledger,
        ledger_until=until,
    )


def ledger_row(rule: str, totals: dict[str, int]) -> LedgerRow:
    """The totals of a rule, *totals*, with their ratios."""
    true = totals["true"]
    return LedgerRow(
        rule=rule,
        **{name: totals[name] for name in ("raised", "true", "late", "false", "missed")},
        precision=precision(true, totals["late"], totals["false"]),
        recall=recall(true, totals["missed"]),
        lead_mean_s=totals["lead_s"] / true if true else None,
    )


def models(store: Store) -> ModelsView:
    """Generations, contests and rollbacks."""
    with store.lock:
        book = store.models
        return ModelsView(
            now=store.now(),
            topic=progress(store.topics["models"]),
            trainer=store.config.trainer.enabled,
            every_s=int(store.config.finetune.every),
            incumbent=book.incumbent,
            changes=[IncumbentChange(at=ms / 1000, incumbent=each) for ms, each in book.changes][
                ::-1
            ],
            contests=[book.contests[n] for n in sorted(book.contests, reverse=True)],
            rollbacks=[book.rollbacks[n] for n in sorted(book.rollbacks, reverse=True)],
            weights=dict(sorted(book.weights.items())),
            scores=generations(store),
            rollouts={
                each.name: each.fields["rollout_pages_left"]
                for each in known(store)
                if "rollout_pages_left" in each.fields
            },
        )


def generations(store: Store) -> list[GenerationScore]:
    """The scores of each generation."""
    horizon = nearest_horizon(store)
    sums: dict[int, dict[str, float]] = {}
    times: dict[int, list[int]] = {}
    for (ends_at, generation), each in store.scores.periods("all", horizon).items():
        add(sums.setdefault(generation, {}), each)
        times.setdefault(generation, []).append(ends_at)
    return [
        GenerationScore(
            generation=generation,
            from_at=min(times[generation]),
            until_at=max(times[generation]),
            forecasts=round(each["forecasts"]),
            **{
                name: None if value is None else number(value)
                for name, value in ratios(each).items()
                if name in ("coverage", "error", "skill_last")
            },
        )
        for generation, each in sorted(sums.items())
    ]


def inputs(store: Store) -> InputView:
    """What is read, and what was rejected."""
    with store.lock:
        forecasters = [each for each in known(store) if each.role == "forecaster"]
        verdicts: Counter[str] = Counter()
        invalid: Counter[str] = Counter()
        lags: dict[str, float] = {}
        lags_s: dict[str, float] = {}
        for each in forecasters:
            verdicts.update(each.table("verdicts_total", "verdict"))
            invalid.update(each.table("messages_invalid_total", "reason"))
            lags |= each.partitions
            for row in each.labelled:
                if "consumer_lag_seconds" in row.fields:
                    at = f"{row.tags.get('topic')}/{row.tags.get('partition')}"
                    lags_s[at] = row.fields["consumer_lag_seconds"]

        def total(name: str) -> float:
            return sum(each.fields.get(name, 0.0) for each in forecasters)

        config, rejects = store.config, store.rejects
        own = config.readings_input  # of forecasters: with a rekeyer, its topic
        newest = list(rejects.sample)[::-1][:SAMPLE_MAX]
        others = [each for each in rejects.by_reason.values() if each not in newest]
        return InputView(
            now=store.now(),
            topic=progress(store.topics["rejects"]),
            inputs=list(own.read) if own.pattern is None else [],
            pattern=own.pattern,
            format=config.input.format,
            messages=total("messages_total"),
            readings=total("readings_total"),
            skipped=total("elements_skipped_total"),
            verdicts={name: n for name, n in verdicts.items() if n},
            invalid={name: n for name, n in invalid.items() if n},
            lags=lags,
            lags_s=lags_s,
            rejects=dict(rejects.counts.most_common()),
            sample=[
                RejectView(
                    at=each.time_ms / 1000,
                    reason=each.reason,
                    detail=each.detail,
                    place=each.place,
                    key=each.key,
                    value=each.value,
                    size=each.size,
                )
                for each in (*newest, *others)
            ],
        )
