"""Reads and writes the models topic, for a trainer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.core.network.model import Forecaster
from streamer.core.registry.models import WeightsRejected, WeightsValidator, guarded
from streamer.core.types import Message
from streamer.core.wire import contests, generations
from streamer.core.wire.contests import Contest, Rollback
from streamer.core.wire.generations import INCUMBENT, Incumbent
from streamer.training.outcome import Outcome, Past, TrainedModel

WEIGHTS_KEPT = 16  # latest generations to keep; pages of older ones are rebuilt anyway


class UnusableRecord(Exception):
    """A record whose weights are missing or cannot be used here."""


@dataclass(slots=True)
class ModelsTopic:
    """Weights, contests and rollbacks by generation, as in the topic."""

    shipped: TrainedModel
    admit: WeightsValidator
    serving: TrainedModel
    past: Past
    weights: dict[int, bytes] = field(default_factory=dict)
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)  # the reasons why records were skipped

    def apply(self, key: bytes | None, value: bytes | None) -> TrainedModel | None:
        """Process a record; return the new incumbent if it names one. Raises UnusableRecord."""
        if key == INCUMBENT and value is not None:
            try:
                named = generations.decode(value)
            except ValueError as error:
                raise UnusableRecord(f"incumbent: {error}") from error
            self.serving = self.take(named.generation)
            return self.serving
        numbered = generations.numbered(key)
        if numbered is None:
            raise UnusableRecord(f"no key of the models topic: {key!r}")
        kind, generation = numbered
        self.past.generation = max(self.past.generation, generation)
        if kind == "weights":
            if value is None:
                self.weights.pop(generation, None)
            else:
                self.weights[generation] = value
        elif value is not None:
            self._apply_result(kind, value)
        return None

    def take(self, generation: int) -> TrainedModel:
        """Return a generation; raises UnusableRecord if it is missing or cannot be used."""
        if generation == 0:
            return self.shipped
        packed = self.weights.get(generation)
        if packed is None:
            raise UnusableRecord(f"weights/{generation}: missing")
        try:
            model = guarded(self.admit)(generation, packed)
        except WeightsRejected as unfit:
            raise UnusableRecord(f"weights/{generation}: {unfit.flaw}, {unfit.detail}") from unfit
        assert isinstance(model, Forecaster)
        digest = hashlib.sha256(packed).hexdigest()
        span = self.spans.get(generation, (0.0, 0.0))
        return TrainedModel(generation, model.network, digest, *span, packed)

    def note(self, outcome: Outcome) -> None:
        """Process an outcome that we have published."""
        self.past.generation = max(self.past.generation, outcome.result.generation)
        if outcome.weights is not None:
            self.weights[outcome.result.generation] = outcome.weights
        if outcome.serving is not None:
            self.serving = outcome.serving
        for generation in self.outdated():
            del self.weights[generation]

    def outdated(self) -> list[int]:
        """Return the generations whose weights are no longer needed."""
        return [
            each for each in sorted(self.weights)[:-WEIGHTS_KEPT] if each != self.serving.generation
        ]

    def _apply_result(self, kind: str, value: bytes) -> None:
        try:
            if kind == "contest":
                held = contests.decode_contest(value)
                self.spans[held.generation] = held.trained_from, held.trained_until
                self.past.judged_until = max(self.past.judged_until, held.judged_until)
            else:
                back = contests.decode_rollback(value)
                span = back.trained_from, back.trained_until
                if span not in self.past.bad:
                    self.past.bad.append(span)
        except ValueError as error:
            raise UnusableRecord(f"{kind}: {error}") from error


def read_models_topic(
    table: Mapping[bytes, bytes], shipped: Forecaster, admit: WeightsValidator
) -> ModelsTopic:
    """Read the topic; if the incumbent it names cannot be used, the shipped weights serve."""
    zero = TrainedModel(0, shipped.network, shipped.digest)
    made = ModelsTopic(zero, admit, zero, Past())
    last = {INCUMBENT: table[INCUMBENT]} if INCUMBENT in table else {}
    for key, value in [*((k, v) for k, v in table.items() if k != INCUMBENT), *last.items()]:
        try:
            made.apply(key, value)
        except UnusableRecord as error:
            made.skipped.append(str(error))
    return made


def messages(outcome: Outcome, known: ModelsTopic, topic: str) -> list[Message]:
    """Return the messages that publish an outcome: the weights before the contest."""
    result = outcome.result
    made: list[Message] = []
    if outcome.weights is not None:
        made.append(_message(topic, generations.weights_key(result.generation), outcome.weights))
    if isinstance(result, Contest):
        key, since = generations.contest_key(result.generation), result.judged_until
    else:
        key, since = generations.rollback_key(result.generation), result.judged_until
    made.append(_message(topic, key, contests.encode(result)))
    if outcome.serving is not None:
        incumbent = Incumbent(
            generation=outcome.serving.generation,
            previous=result.incumbent if isinstance(result, Contest) else result.generation,
            since=since,
            reason="rolled_back" if isinstance(result, Rollback) else "promoted",
        )
        made.append(_message(topic, INCUMBENT, generations.encode(incumbent)))
    made += [
        _message(topic, generations.weights_key(generation), None)
        for generation in known.outdated()
    ]
    return made


def _message(topic: str, key: bytes, value: bytes | None) -> Message:
    return Message(topic, 0, key, value)
