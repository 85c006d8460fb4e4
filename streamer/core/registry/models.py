"""
Which weights serve, and which are kept because pages still belong to them.

Whatever the models topic holds is judged here, and only what fits is let in: a
record that is junk is refused with its reason, and what served before goes on.
The last `incumbent` decides. Generation 0 is what the settings have.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from streamer.core.network.config import Model
from streamer.core.types import Record
from streamer.core.wire import generations as wire

READY_MAX = 4  # generations that were told of and may be promoted; of older ones the topic knows


class WeightsFlaw(enum.StrEnum):
    """Why a record of the models topic is refused."""

    UNKNOWN_KEY = "unknown_key"
    UNREADABLE = "unreadable"  # no weights at all, cut off, of other tensors than the header says
    TOO_LARGE = "too_large"  # than weights of our network can be
    ARCHITECTURE = "other_architecture"
    NOT_FINITE = "not_finite"
    CHANGED = "changed"  # other weights under the number of some that serve
    NO_INCUMBENT = "no_incumbent"  # it does not say which generation serves
    NO_WEIGHTS = "no_weights"  # it names a generation whose weights are nowhere


class WeightsRejected(ValueError):
    """These bytes are no weights that could serve here."""

    def __init__(self, flaw: WeightsFlaw, detail: str = "") -> None:
        super().__init__(detail)
        self.flaw = flaw
        self.detail = detail


WeightsValidator = Callable[
    [int, bytes], Model
]  # a generation and its weights; raises WeightsRejected


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record of the models topic that changes nothing, and why."""

    generation: int  # -1: it names none
    flaw: WeightsFlaw
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RegistryUpdate:
    """What the models topic had to say."""

    refusals: list[Refusal]
    promoted: wire.Incumbent | None = None  # who serves from now on; None: as before
    weights_missing: bool = False  # an incumbent's weights are not at hand: the table may have them


class ModelRegistry:
    """Models by their number. At most READY_MAX beside those that serve and those in use."""

    def __init__(self, shipped: Model, admit: WeightsValidator | None = None) -> None:
        self.incumbent = shipped.generation
        self.decided = True  # False: somebody serves, but what says who is junk: let pages be
        self._shipped = shipped.generation
        self._admit = admit or nothing_fits
        self._models = {shipped.generation: shipped}
        self._ready: dict[int, Model] = {}
        self._table: Mapping[bytes, bytes] = {}  # while pages are read that may need it

    def __getitem__(self, generation: int) -> Model:
        return self._models[generation]

    @property
    def digests(self) -> Mapping[int, str]:
        """The marks of all weights that are here, by generation."""
        return {generation: model.digest for generation, model in self._models.items()}

    @property
    def unnamed(self) -> bool:
        """Whether there may be something to let go of: the topic's table, or who served before."""
        return bool(self._table) or bool(self._models.keys() - {self.incumbent, self._shipped})

    @property
    def model(self) -> Model:
        """The incumbent's."""
        return self._models[self.incumbent]

    def load(self, table: Mapping[bytes, bytes]) -> RegistryUpdate:
        """
        Take in the models topic as its *table* has it.

        Where the incumbent cannot serve, the one that it came after does: a rollback to it may
        never have been heard of here. The table is kept until `retire`.
        """
        self._table = table
        told, refusals = self._read(table.get(wire.INCUMBENT))
        if told is None:
            self.decided = not refusals or self.incumbent != self._shipped
            return RegistryUpdate(refusals)
        chosen = self._choose(told.generation, refusals)
        if not chosen and self.incumbent != told.generation:
            self._choose(told.previous, refusals)
        return RegistryUpdate(refusals, told if chosen else None)

    def apply(self, records: Iterable[Record]) -> RegistryUpdate:
        """Take in *records* of the models topic in their order; of incumbents the last counts."""
        refusals: list[Refusal] = []
        told = None
        for record in records:
            key = wire.numbered(record.key)
            if record.key == wire.INCUMBENT:
                heard, flawed = self._read(record.value)
                refusals += flawed
                told = heard or told
            elif key is None:
                refusals.append(
                    Refusal(-1, WeightsFlaw.UNKNOWN_KEY, repr((record.key or b"")[:40]))
                )
            elif key[0] == "weights":
                self._prepare(key[1], record.value, refusals)
        if told is None:
            return RegistryUpdate(refusals)
        if told.generation not in self._models and told.generation not in self._ready:
            return RegistryUpdate(refusals, weights_missing=True)
        return RegistryUpdate(refusals, told if self._choose(told.generation, refusals) else None)

    def install(self, model: Model) -> None:
        """Have *model* be the incumbent, whatever the topic says."""
        self._models[model.generation] = model
        self.incumbent, self.decided = model.generation, True

    def fetch(self, generation: int) -> Model | None:
        """The model of pages of this *generation*; None where its weights are nowhere."""
        return self._find(generation, [])

    def retire(self, in_use: Collection[int]) -> None:
        """Let go of all models but the incumbent and those *in_use*, and of the table."""
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
        """Have new weights at hand, judged, for when they are promoted."""
        if value is None:  # what serves goes on
            self._ready.pop(generation, None)
            return
        try:
            model = self._admit(generation, value)
        except WeightsRejected as unfit:
            refusals.append(Refusal(generation, unfit.flaw, unfit.detail))
            return
        served = self._models.get(generation)
        if served is None:
            self._ready[generation] = model
            for oldest in sorted(self._ready)[:-READY_MAX]:
                del self._ready[oldest]
        elif served.digest != model.digest:
            refusals.append(Refusal(generation, WeightsFlaw.CHANGED))

    def _choose(self, generation: int, refusals: list[Refusal]) -> bool:
        """Make it the incumbent; False where it cannot be, or is already."""
        self.decided = True
        if generation == self.incumbent or self._find(generation, refusals) is None:
            return False
        self.incumbent = generation
        return True

    def _find(self, generation: int, refusals: list[Refusal]) -> Model | None:
        if generation in self._models:
            return self._models[generation]
        model = self._ready.pop(generation, None)
        packed = self._table.get(wire.weights_key(generation))
        if model is None and packed is not None:
            try:
                model = self._admit(generation, packed)
            except WeightsRejected as unfit:
                refusals.append(Refusal(generation, unfit.flaw, unfit.detail))
                return None
        if model is None:
            refusals.append(Refusal(generation, WeightsFlaw.NO_WEIGHTS))
            return None
        self._models[generation] = model
        return model


def nothing_fits(_generation: int, _packed: bytes) -> Model:
    """For an engine that has the settings' weights alone."""
    raise WeightsRejected(WeightsFlaw.ARCHITECTURE, "only the settings' weights serve here")
