"""
The registry: which weights serve, and which are kept because pages still belong to them.

Every record of the models topic is validated here. An invalid record is refused with a reason,
and the current incumbent continues to serve.
The last `incumbent` record decides. Generation 0 is the model from the settings.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from streamer.core.network.config import Model
from streamer.core.types import Record
from streamer.core.wire import generations as wire

DETAIL_MAX = 200  # characters of an exception's message
READY_MAX = 4  # received generations that may be promoted; older ones remain in the topic only


class WeightsFlaw(enum.StrEnum):
    """Why a record of the models topic is refused."""

    UNKNOWN_KEY = "unknown_key"
    UNREADABLE = "unreadable"  # not weights, truncated, or unlike the header
    TOO_LARGE = "too_large"  # larger than weights of this network can be
    ARCHITECTURE = "other_architecture"
    NOT_FINITE = "not_finite"
    CHANGED = "changed"  # different weights under the number of weights that serve
    NO_INCUMBENT = "no_incumbent"  # it does not name the generation that serves
    NO_WEIGHTS = "no_weights"  # it names a generation whose weights are not found
    FAILED = "failed"  # an exception: in their validation, or with a sound row


class WeightsFailed(Exception):
    """Weights that were installed raise an exception with any row."""

    def __init__(self, generation: int, error: Exception) -> None:
        super().__init__(f"generation {generation}: {type(error).__name__}: {error}")
        self.generation = generation


class WeightsRejected(ValueError):
    """These bytes are not weights that can serve here."""

    def __init__(self, flaw: WeightsFlaw, detail: str = "") -> None:
        super().__init__(detail)
        self.flaw = flaw
        self.detail = detail


WeightsValidator = Callable[
    [int, bytes], Model
]  # a generation and its weights; raises WeightsRejected


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record of the models topic that was refused, and the reason."""

    generation: int  # -1 if the record names none
    flaw: WeightsFlaw
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RegistryUpdate:
    """The result of reading records of the models topic."""

    refusals: list[Refusal]
    promoted: wire.Incumbent | None = None  # the new incumbent; None if it is unchanged
    weights_missing: bool = False  # the incumbent's weights are not loaded: read the topic's table


class ModelRegistry:
    """Models by generation: those in use, and at most READY_MAX others that may be promoted."""

    def __init__(self, shipped: Model, admit: WeightsValidator | None = None) -> None:
        self.incumbent = shipped.generation
        self.barred: Mapping[int, str] = {}  # generations that must not serve, and why
        self.decided = True  # False: the incumbent record is invalid, so pages are not migrated
        self._shipped = shipped.generation
        self._admit = guarded(admit or nothing_fits)
        self._models = {shipped.generation: shipped}
        self._ready: dict[int, Model] = {}
        self._table: Mapping[bytes, bytes] = {}  # kept while pages that may need it are restored

    def __getitem__(self, generation: int) -> Model:
        return self._models[generation]

    @property
    def digests(self) -> Mapping[int, str]:
        """The digests of all loaded weights, by generation."""
        return {generation: model.digest for generation, model in self._models.items()}

    @property
    def unnamed(self) -> bool:
        """Whether `retire` may free something: the topic's table, or models that served before."""
        return bool(self._table) or bool(self._models.keys() - {self.incumbent, self._shipped})

    @property
    def model(self) -> Model:
        """The incumbent's model."""
        return self._models[self.incumbent]

    def load(self, table: Mapping[bytes, bytes]) -> RegistryUpdate:
        """
        Read the models topic from its compacted *table*.

        If the incumbent's weights are unusable, its predecessor serves: a rollback to it may not
        have been received here. The table is kept until `retire`.
        """
        self._table = table
        named, refusals = self._read(table.get(wire.INCUMBENT))
        if named is None:
            self.decided = not refusals or self.incumbent != self._shipped
            return RegistryUpdate(refusals)
        chosen = self._choose(named.generation, refusals)
        if not chosen and self.incumbent != named.generation:
            self._choose(named.previous, refusals)
        return RegistryUpdate(refusals, named if chosen else None)

    def apply(self, records: Iterable[Record]) -> RegistryUpdate:
        """Apply *records* of the models topic in order; the last incumbent record counts."""
        refusals: list[Refusal] = []
        named = None
        for record in records:
            key = wire.numbered(record.key)
            if record.key == wire.INCUMBENT:
                received, flawed = self._read(record.value)
                refusals += flawed
                named = received or named
            elif key is None:
                refusals.append(
                    Refusal(-1, WeightsFlaw.UNKNOWN_KEY, repr((record.key or b"")[:40]))
                )
            elif key[0] == "weights":
                self._prepare(key[1], record.value, refusals)
        if named is None:
            return RegistryUpdate(refusals)
        if named.generation not in self._models and named.generation not in self._ready:
            return RegistryUpdate(refusals, weights_missing=True)
        return RegistryUpdate(refusals, named if self._choose(named.generation, refusals) else None)

    def install(self, model: Model) -> None:
        """Make *model* the incumbent, whatever the topic contains."""
        self._models[model.generation] = model
        self.incumbent, self.decided = model.generation, True

    def fetch(self, generation: int) -> Model | None:
        """The model for pages of this *generation*; None if its weights are not found."""
        return self._find(generation, [])

    def retire(self, in_use: Collection[int]) -> None:
        """Drop the table and all models but the incumbent and those *in_use*."""
        self._table = {}
        kept = {self.incumbent, self._shipped, *in_use}
        self._models = {g: model for g, model in self._models.items() if g in kept}

    def _read(self, value: bytes | None) -> tuple[wire.Incumbent | None, list[Refusal]]:
        if value is None:
            return None, []
        try:
            return wire.decode(value), []
        except ValueError as why:
            return None, [Refusal(-1, WeightsFlaw.NO_INCUMBENT, str(why)[:200])]

    def _prepare(self, generation: int, value: bytes | None, refusals: list[Refusal]) -> None:
        """Validate new weights and keep them until they are promoted."""
        if value is None:  # a tombstone does not affect weights that serve
            self._ready.pop(generation, None)
            return
        model = self._admitted(generation, value, refusals)
        if model is None:
            return
        served = self._models.get(generation)
        if served is None:
            self._ready[generation] = model
            for oldest in sorted(self._ready)[:-READY_MAX]:
                del self._ready[oldest]
        elif served.digest != model.digest:
            refusals.append(Refusal(generation, WeightsFlaw.CHANGED))

    def _choose(self, generation: int, refusals: list[Refusal]) -> bool:
        """Make it the incumbent; False if it cannot be, or already is."""
        self.decided = True
        if generation == self.incumbent or self._find(generation, refusals) is None:
            return False
        self.incumbent = generation
        return True

    def _admitted(self, generation: int, packed: bytes, refusals: list[Refusal]) -> Model | None:
        """The model with these weights; None, with the reason in *refusals*, if it cannot serve."""
        try:
            if generation in self.barred:
                raise WeightsRejected(WeightsFlaw.FAILED, self.barred[generation])  # noqa: TRY301 - as others
            return self._admit(generation, packed)
        except WeightsRejected as unfit:
            refusals.append(Refusal(generation, unfit.flaw, unfit.detail))
        return None

    def _find(self, generation: int, refusals: list[Refusal]) -> Model | None:
        if generation in self._models:
            return self._models[generation]
        model = self._ready.pop(generation, None)
        packed = self._table.get(wire.weights_key(generation))
        if model is None and packed is not None:
            model = self._admitted(generation, packed, refusals)
            if model is None:
                return None
        if model is None:
            refusals.append(Refusal(generation, WeightsFlaw.NO_WEIGHTS))
            return None
        self._models[generation] = model
        return model


def guarded(admit: WeightsValidator) -> WeightsValidator:
    """*admit*, which raises nothing but WeightsRejected: the incumbent must go on, always."""

    def guard(generation: int, packed: bytes) -> Model:
        try:
            return admit(generation, packed)
        except WeightsRejected:
            raise
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"[:DETAIL_MAX]
            raise WeightsRejected(WeightsFlaw.FAILED, detail) from error

    return guard


def nothing_fits(_generation: int, _packed: bytes) -> Model:
    """The validator of an engine that accepts only the weights from the settings."""
    raise WeightsRejected(WeightsFlaw.ARCHITECTURE, "only the settings' weights serve here")
