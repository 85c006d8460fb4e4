"""
Encoding of alerts: flat JSON, one record when an alert is raised, judged and resolved.

    {"schema": 1, "id": "edge1/in/spike@1700000100", "flow": "edge1/in", "rule": "spike",
     "kind": "spike", "severity": "warning", "state": "firing", "reason": "chance",
     "verdict": "open", "since": 1700000100, …, "chance": 0.62, "threshold": 2.5e6, …,
     "peak_q50": 2.7e6, "peak_q95": 4.1e6, …, "label_team": "core", "text": "…"}

The key is the flow and the rule, `edge1/in|spike`, so a compacted topic keeps the newest record of
each. Records of the ledger go to the scores topic, with the class `rule/NAME`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from streamer.core.types import Alert, Message, Partition, RuleScore

SCHEMA = 1
FIELDS = (
    *("flow", "rule", "kind", "severity", "state", "reason", "verdict", "since", "updated_at"),
    *("lead_s", "step_s", "within_s", "chance", "threshold", "unit", "rate", "usual"),
    *("expected_at", "capacity", "generation", "served_by"),
)
COUNTS = ("raised", "true", "late", "false", "missed", "lead_s")
PREFIXES = ("", "k", "M", "G", "T", "P", "E")
FEEDBACK = "+feedback"  # in the key of a record, in the place of a rule's name
DIGITS = 6  # of a rate


def messages(alerts: Sequence[Alert], topic: str) -> Iterator[Message]:
    """One record per alert, in the partition of its flow's readings."""
    for alert in alerts:
        yield Message(topic, alert.partition.number, key_of(alert.flow, alert.rule), encoded(alert))


def key_of(flow: str, rule: str) -> bytes:
    """The key of the records of *rule* for *flow*."""
    return f"{flow}|{rule}".encode()


def feedback_message(
    partition: Partition, alert: Mapping[str, Any], verdict: str, at: int
) -> Message:
    """
    An operator's *verdict* on the alert with the record *alert*, in the alert's *partition*.

    Its key differs from that of every alert, because no rule's name begins with a sign.
    """
    value = msgspec.json.encode({
        "schema": SCHEMA,
        "feedback": verdict,
        "id": alert["id"],
        "flow": alert["flow"],
        "rule": alert["rule"],
        "since": alert.get("since"),
        "at": at,
    })  # fmt: skip
    key = f"{alert['id']}|{FEEDBACK}".encode()
    return Message(partition.topic, partition.number, key, value)


def encoded(alert: Alert) -> bytes:
    """An alert as a flat object."""
    fields: dict[str, object] = {"schema": SCHEMA, "id": alert.id}
    for name in FIELDS:
        value = getattr(alert, name)
        fields[name] = rounded(value) if isinstance(value, float) else value
    fields |= {name: rounded(level) for name, level in alert.peaks.items()}
    fields |= {f"label_{name}": value for name, value in alert.labels.items()}
    fields |= alert.flow_labels
    fields["text"] = sentence(alert)
    return msgspec.json.encode(fields)


def rounded(value: float) -> float | None:
    """*value* to DIGITS digits, as single precision has them; None if it is not finite."""
    if not math.isfinite(value) or value == 0:
        return None if value else 0.0
    return round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))


def sentence(alert: Alert) -> str:
    """What an operator should know, in one sentence."""
    flow, rate = alert.flow, amount(alert.rate, alert.unit)
    usual = "" if alert.usual is None else f", its usual rate is {amount(alert.usual, alert.unit)}"
    if alert.state == "resolved":
        came = {
            "true": "; the threshold was passed as predicted",
            "late": "; the threshold had been passed before the alert",
            "false": "; the threshold was not passed in time",
        }.get(alert.verdict or "", "")
        return f"{flow}: alert {alert.rule} has ended ({alert.reason}){came}"
    limit = amount(alert.threshold, alert.unit)
    if alert.verdict is not None and alert.threshold:
        ahead = f"within {alert.within_s / 60:g} min"
        when = "" if alert.expected_at is None else f", first at {clock(alert.expected_at)} UTC"
        likely = "" if alert.chance is None else f" with a chance of {alert.chance:.0%}"
        times = (
            f" ({alert.threshold / alert.usual:.1f} times its usual rate)" if alert.usual else ""
        )
        if alert.reason == "above":
            return f"{flow} is at {rate}, above {limit}{times}"
        by = f"; predicted by {alert.served_by}" if alert.served_by else ""
        return f"{flow} is expected above {limit}{times} {ahead}{likely}{when}; it is at {rate}{by}"
    observed = {
        "below": f"{flow} is at {rate}, below {limit}{usual}",
        "silent": f"{flow} sends nothing any more, while other flows of its partition go on{usual}",
        "uncovered": (
            f"{flow}: its rates are outside of their forecast bands more often than they should be"
        ),
    }
    outside = f"{flow} is at {rate}, outside of the forecast band for some steps{usual}"
    return observed.get(alert.reason, outside)


def amount(value: float | None, unit: str) -> str:
    """A rate with three digits and a prefix: `1.23 MB/s`."""
    if value is None:
        return "an unknown rate"
    nth = 0
    while abs(value) >= 999.5 and nth < len(PREFIXES) - 1:
        value, nth = value / 1000, nth + 1
    return f"{value:.3g} {PREFIXES[nth]}{unit}".rstrip()


def clock(time_s: int) -> str:
    """Epoch seconds as `23:59`, UTC."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%H:%M")


def score_messages(scores: Sequence[RuleScore], topic: str, step_s: int) -> Iterator[Message]:
    """One record per rule and period, keyed by its class."""
    for score in scores:
        fields: dict[str, object] = {
            "schema": SCHEMA,
            "ends_at": score.ends_at,
            "period_s": score.period_s,
            "step_s": step_s,
            "class": f"rule/{score.rule}",
            **{name: getattr(score, name) for name in COUNTS},
        }
        yield Message(topic, None, f"rule/{score.rule}".encode(), msgspec.json.encode(fields))
