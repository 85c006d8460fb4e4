"""
Scores of the newest periods, and the ledger of alerts, added up over turns and instances.

Each record of the scores topic holds counts and sums of one turn; sums over records are exact, and
the ratios follow from them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from streamer.core.types import Record

SUMS = ("flows", "forecasts", "covered", "rate", "error_rate", "error", "quantile_loss", "width")
COUNTS = ("raised", "true", "late", "false", "missed", "lead_s")
KEYS_MAX = 50_000  # of a class, horizon, generation and period
RULES_MAX = 256
RULE = "rule/"

Key = tuple[int, str, int, int]  # end of the period, class, horizon, generation


class ScoreBook:
    """Sums by period, class, horizon and generation; the oldest periods go first."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self.sums: dict[Key, dict[str, float]] = {}
        self.rules: dict[tuple[int, str], dict[str, int]] = {}
        self.baselines: list[str] = []
        self.newest = 0  # end of the newest period
        self.junk: Counter[str] = Counter()

    def read(self, records: Iterable[Record]) -> None:
        """Take in *records* of the scores topic."""
        for record in records:
            try:
                self._take(json.loads(record.value or b""))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
                self.junk["not_a_score"] += 1
        self._forget()

    def periods(
        self, of: str, horizon: int | None = None
    ) -> dict[tuple[int, int], dict[str, float]]:
        """Sums of the class *of* by period and generation, at one horizon or at all."""
        found: dict[tuple[int, int], dict[str, float]] = {}
        for (ends_at, name, at, generation), sums in self.sums.items():
            if name == of and horizon in (None, at):
                add(found.setdefault((ends_at, generation), {}), sums)
        return dict(sorted(found.items()))

    def horizons(self, of: str) -> dict[int, dict[str, float]]:
        """Sums of the class *of* by horizon."""
        found: dict[int, dict[str, float]] = {}
        for (_, name, horizon, _), sums in self.sums.items():
            if name == of:
                add(found.setdefault(horizon, {}), sums)
        return dict(sorted(found.items()))

    def ledger(self) -> dict[str, dict[str, int]]:
        """The counts of each rule."""
        found: dict[str, dict[str, int]] = {}
        for (_, rule), counts in sorted(self.rules.items()):
            totals = found.setdefault(rule, dict.fromkeys(COUNTS, 0))
            for name in COUNTS:
                totals[name] += counts[name]
        return found

    def _take(self, score: dict[str, Any]) -> None:
        ends_at, name = whole(score["ends_at"]), score["class"]
        if not isinstance(name, str) or len(name) > 256:
            raise ValueError("a class is a short text")
        if name.startswith(RULE):
            counts = {each: whole(score[each]) for each in COUNTS}
            add(self.rules.setdefault((ends_at, name.removeprefix(RULE)), {}), counts)
        else:
            sums = {each: number(score[each]) for each in (*SUMS, "missed")}
            missed = {key: number(n) for key, n in score.items() if key.startswith("missed_")}
            if len(missed) > 64:
                raise ValueError("too many baselines")
            if not self.baselines:
                self.baselines = [key.removeprefix("missed_") for key in missed]
            key = ends_at, name, whole(score["horizon"]), whole(score["generation"])
            add(self.sums.setdefault(key, {}), sums | missed)
        self.newest = max(self.newest, ends_at)

    def _forget(self) -> None:
        since = self.newest - self._keep_s
        if any(key[0] <= since for key in self.sums) or len(self.sums) > KEYS_MAX:
            kept = sorted(key for key in self.sums if key[0] > since)[-KEYS_MAX:]
            self.sums = {key: self.sums[key] for key in kept}
        if len(self.rules) > RULES_MAX * 32 or any(at <= since for at, _ in self.rules):
            rules = sorted(key for key in self.rules if key[0] > since)[-RULES_MAX * 32 :]
            self.rules = {key: self.rules[key] for key in rules}


def ratios(sums: dict[str, float]) -> dict[str, float | None]:
    """Coverage, error, width and skills of sums; None where nothing was scored."""
    count = sums.get("forecasts", 0)
    if not count:
        return {"coverage": None, "error": None, "width": None, "skill_last": None, "skill": None}
    missed = sums.get("missed", 0.0)
    naive = {k: v for k, v in sums.items() if k.startswith("missed_") and v > 0}
    best = min(naive.values(), default=0.0)
    last = naive.get("missed_last", 0.0)
    return {
        "coverage": sums["covered"] / count,
        "error": sums["error"] / count,
        "width": sums["width"] / count,
        "skill_last": 1 - missed / last if last else None,
        "skill": 1 - missed / best if best else None,
    }


def add(totals: dict[str, Any], more: dict[str, Any]) -> None:
    """Add the numbers of *more* to *totals*."""
    for name, value in more.items():
        totals[name] = totals.get(name, 0) + value


def number(value: object) -> float:
    """*value*, a finite number; raises ValueError or TypeError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    found = float(value)
    if not math.isfinite(found):
        raise ValueError("not finite")
    return found


def whole(value: object) -> int:
    """*value*, an integer of at most 62 bits; raises ValueError or TypeError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not an integer")
    if abs(value) >= 1 << 62:
        raise ValueError("too large")
    return value
