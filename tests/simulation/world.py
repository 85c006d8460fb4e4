"""
A world in one thread: a log that lasts, forecasters that die, one seed.

Traffic, faults and rebalances are drawn from the seed, afresh in kind for each, so a
failure is replayed by its seed alone. Time is a number that the world moves on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from streamer.config.types import Duration
from streamer.core.alerts.lifecycle import state_of
from streamer.core.alerts.phases import Phase as AlertPhase
from streamer.core.alerts.rules import AlertsConfig, RuleConfig
from streamer.core.budget import Budget
from streamer.core.columns import Columns
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features.grid import GridConfig
from streamer.core.state.page_format import Page, decode
from streamer.core.types import Partition
from streamer.core.wire import InputConfig
from streamer.core.wire.forecasts import ForecastsConfig
from streamer.core.wire.scores import ScoresConfig
from streamer.daemon.events import Phase
from streamer.daemon.forecaster import Forecaster
from streamer.daemon.isolation import TurnFailed
from streamer.daemon.pacing import Pacing
from streamer.daemon.settings import GenerationConfig, StateConfig, TurnConfig
from streamer.log import LogError
from tests.simulation.fingerprint import Fingerprint, admit
from tests.simulation.memory import (
    ALERTS,
    FORECASTS,
    MODELS,
    REJECTS,
    SCORES,
    STATE,
    TOPIC,
    Faults,
    Member,
    MemoryLog,
)
from tests.simulation.traffic import POISON
from tests.simulation.trainer import Trainer

TURNS_MAX = 20_000
PAGE_ROWS = (2, 5, 64)
RULES = (  # rates are 0 to 5,000 a second; three don't depend on any weights
    RuleConfig(name="low", kind="threshold", below=500, clear_steps=1, flows="flow[0-4]"),
    RuleConfig(name="peak", kind="threshold", above=900, for_steps=2, clear_steps=1, chance=0.9),
    RuleConfig(name="odd", kind="coverage", covered_min=0.9, clear_steps=1),
    RuleConfig(name="idle", kind="threshold", below=700, for_steps=2, clear_steps=2),
    # Of counters: what is expected of a flow of deltas depends on its forecasts.
    RuleConfig(
        name="gone", kind="silence", after=Duration(120), expires=Duration(600), flows="flow*"
    ),
)
WEIGHTLESS = ("low", "idle", "gone")
DAMAGED = b"damaged"  # as a row's unit: the engine fails at it
PAGE_S = 1.5  # estimated time to roll out a page: every second turn has the time for one


class ConstantPacing(Pacing):
    """Pacing whose estimate stays, as the world's clock stands still within a turn."""

    def begin(self) -> None:
        super().begin()
        self.page_s = PAGE_S


class Silence:
    """An observer that looks away."""

    def moved(self, phase) -> None: ...

    def turned(self, turn) -> None: ...

    def alive(self) -> None: ...

    def restored(self, back) -> None: ...

    def unplaced(self, partitions, widths): ...

    def registry_updated(self, update) -> None: ...

    def failed(self, failed) -> None: ...

    def refused(self, error, pause_s) -> None: ...


@dataclass(frozen=True)
class Shape:
    """What kind of world a seed draws."""

    flows: int
    partitions: int
    forecasters: int
    flows_max: int
    batched: bool  # several readings a record, several forecasts a record
    page_rows: int = 64
    interval_s: int = 60  # in which each page is saved; a turn takes ten on average
    learning: float = 0.0  # the chance of a word from the trainer, each turn
    passes_max: int = 200  # of the network, that a turn may take

    @classmethod
    def draw(cls, chance: Random) -> Shape:
        flows = chance.choice([3, 7, 18])
        return cls(
            flows=flows,
            partitions=chance.choice([1, 3, 4]),
            forecasters=chance.choice([1, 2, 4]),
            flows_max=chance.choice([100, max(4, flows // 2)]),
            batched=chance.random() < 0.5,
            page_rows=chance.choice(PAGE_ROWS),
            interval_s=chance.choice([30, 100, 400]),
            learning=chance.choice([0.0, 0.05, 0.01]),
            passes_max=chance.choice([2, 10, 200]),
        )


@dataclass(frozen=True)
class Version:
    """Of the program: what may differ from one to the next without a word to anyone."""

    page_rows: int
    extra: Columns  # columns that only this one keeps

    @classmethod
    def draw(cls, chance: Random) -> Version:
        extra: Columns = [("novelty", "f8", (3,)), ("oddity", "u1")]
        return cls(chance.choice(PAGE_ROWS), chance.choice([[], extra[:1], extra]))


class Other(Engine):
    """An engine of another version, whose rows are laid out differently; POISON makes it fail."""

    def __init__(self, config: EngineConfig, version: Version, budget: Budget) -> None:
        self.version = version
        super().__init__(Fingerprint(), config, version.page_rows, admit, budget)

    def columns(self) -> Columns:
        return super().columns() + self.version.extra

    def _process_wave(self, wave, slots, counts):
        if (wave.unit == POISON).any() or (self.table.rows["unit"][slots] == DAMAGED).any():
            raise ZeroDivisionError("poison")
        yield from super()._process_wave(wave, slots, counts)


class World:
    """Faults and turns drawn from *seed*."""

    def __init__(self, shape: Shape, *, seed: int, faults: Faults) -> None:
        self.shape = shape
        self.chance = Random(seed)
        self.now = 0.0
        self.rules = RULES
        self.step_s = 60
        self.crashes = 0
        self.sleeps = 0
        self.log = MemoryLog(self.chance, faults, shape.partitions, asleep=self.meanwhile)
        self.trainer = Trainer(self.log, self.chance)
        self.forecasters = [self.boot() for _ in range(shape.forecasters)]
        self.log.rebalance(self.members)

    @property
    def members(self) -> list[Member]:
        return [forecaster.log for forecaster in self.forecasters]

    def boot(self) -> Forecaster:
        """A process begins."""
        config = EngineConfig(
            flows_max=self.shape.flows_max,
            input=InputConfig(topics=(TOPIC,)),
            grid=GridConfig(step=Duration(self.step_s), gap_max=5),
            forecasts=ForecastsConfig(
                topic=FORECASTS, batch=50 if self.shape.batched else 1, horizons=2
            ),
            scores=ScoresConfig(topic=SCORES, every=Duration(120)),
            alerts=AlertsConfig(enabled=True, topic=ALERTS, rules=self.rules),
        )
        version = Version(self.shape.page_rows, [])
        if self.chance.random() < self.log.faults.upgrade:
            version = Version.draw(self.chance)
            self.log.upgrades += 1
        forecaster = Forecaster(
            join=lambda: Member(self.log),
            engine=lambda: Other(config, version, Budget(self.shape.passes_max)),
            pacing=ConstantPacing(
                TurnConfig(),
                StateConfig(interval=Duration(self.shape.interval_s)),
                GenerationConfig(),
                lambda: self.now,
            ),
            state_topic=STATE,
            rejects_topic=REJECTS,
            models_topic=MODELS,
            observer=Silence(),
            clock=lambda: self.now,
            pause=lambda _: None,
        )
        forecaster.start()
        return forecaster

    def run(self, until_left: float = 0.0) -> None:
        """Until this share of the input is left: each turn is one forecaster's, drawn by chance."""
        records = sum(map(len, self.log.input.values()))
        for _ in range(TURNS_MAX):
            if sum(map(self.log.left, self.log.input)) <= until_left * records:
                return
            if self.chance.random() < self.log.faults.rebalance:
                self.log.rebalance(self.members)
            self.turn(self.chance.randrange(len(self.forecasters)))
        raise AssertionError("no progress")

    def turn(self, i: int) -> None:
        """One turn of a forecaster; one that the log refuses dies or starts again."""
        self.now += self.chance.random() * 20
        if self.shape.learning and self.chance.random() < self.shape.learning:
            self.trainer.act()
        try:
            self.forecasters[i].turn()
        except TurnFailed:
            self.crashes += 1
            old = self.forecasters[i].log
            self.forecasters[i].forget()  # as `Forecaster.run` does
            self.forecasters[i]._move(Phase.STARTING)
            self.forecasters[i].start()
            self.log.succeed(old, self.forecasters[i].log)
        except LogError:
            self.crashes += 1
            if self.chance.random() < 0.5:
                self.forecasters[i] = self.boot()
            else:  # as `Forecaster.run` does
                self.forecasters[i].forget()
                self.forecasters[i]._move(Phase.STARTING)
                self.forecasters[i].start()
            self.log.rebalance(self.members)

    def meanwhile(self, sleeper: Member) -> None:
        """While one sleeps, the others have what it held; perhaps it even gets it back."""
        others = [i for i, member in enumerate(self.members) if member is not sleeper]
        if not others or self.sleeps < 0:
            return
        count, self.sleeps = self.sleeps + 1, -1  # no sleep within another member's sleep
        self.log.rebalance([self.members[i] for i in others])
        for _ in range(self.chance.randint(1, 6)):
            self.turn(self.chance.choice(others))
        if self.chance.random() < 0.5:
            self.log.rebalance(self.members)
        self.sleeps = count

    def settle(self) -> int:
        """
        Without further deaths: rounds, each of one turn of every member, until all is read.

        The last one has every partition held, so that rows can be compared, and no page is behind.
        """
        self.log.faults = Faults(records_max=self.log.faults.records_max)
        self.trainer.retire()
        for rounds in range(TURNS_MAX):
            drained = self.log.drained
            for i in range(len(self.forecasters)):
                self.turn(i)
            generations = set().union(*(f.engine.table.in_use() for f in self.forecasters))
            if drained and generations <= {self.trainer.incumbent}:
                return rounds
        raise AssertionError("no progress")

    def forecasts(self) -> dict[tuple[str, int], dict]:
        """Every forecast by flow and instant; two of one are a failure at once."""
        found: dict[tuple[str, int], dict] = {}
        for message in self.log.published[FORECASTS]:
            for line in message.value.split(b"\n"):
                forecast = json.loads(line)
                key = forecast["flow"], forecast["made_at"]
                assert key not in found, f"forecast twice: {key}"
                found[key] = forecast
        return found

    def saved(self) -> list[tuple[bytes, Page]]:
        """Every page that was ever published, with its key, in this order."""
        dtype = self.forecasters[0].engine.table.rows.dtype
        messages = [m for m in self.log.published[STATE] if m.value and b"/page/" in m.key]
        return [(message.key, decode(message.value, dtype)) for message in messages]

    def scores(self) -> dict[tuple[str, int], dict[str, float]]:
        """The scores of all turns, added up by class, horizon and the period's end."""
        found: dict[tuple[str, int], dict[str, float]] = {}
        for message in self.log.published[SCORES]:
            score = json.loads(message.value)
            if score["class"].startswith("rule/"):
                continue
            sums = found.setdefault((message.key.decode(), score["ends_at"]), {})
            for name in ("flows", "forecasts", "covered", "error", "quantile_loss", "missed"):
                sums[name] = sums.get(name, 0) + score[name]
        return found

    def alerts(self) -> list[dict]:
        """Every record of an alert, in an order of its own: flow, rule, time, state."""
        records = [json.loads(message.value) for message in self.log.published[ALERTS]]
        return sorted(records, key=lambda each: (each["id"], each["state"], each["updated_at"]))

    def standing(self) -> set[str]:
        """The alerts that fire, as a reader of the compacted topic finds them."""
        table = {message.key: json.loads(message.value) for message in self.log.published[ALERTS]}
        return {record["id"] for record in table.values() if record["state"] == "firing"}

    def firing(self) -> set[str]:
        """The alerts that fire, as the rows have them; those of silence have no rows."""
        found = set()
        for forecaster in self.forecasters:
            found |= {alert.id for alert in forecaster.engine.silent.firing}
            table = forecaster.engine.table
            for holding in table._holdings.values():
                for flow, slot in holding.slots.items():
                    for rule in self.rules:
                        if rule.kind == "silence":
                            continue
                        state = state_of(table.rows[slot : slot + 1], rule)[0]
                        if state["phase"] >= AlertPhase.FIRING:
                            found.add(f"{flow}/{rule.name}@{state['since']}")
        return found

    def ledger(self) -> dict[tuple[str, int], dict[str, int]]:
        """The counts of all turns, added up by rule and the period's end."""
        found: dict[tuple[str, int], dict[str, int]] = {}
        for message in self.log.published[SCORES]:
            score = json.loads(message.value)
            if score["class"].startswith("rule/"):
                sums = found.setdefault((score["class"], score["ends_at"]), {})
                for name in ("raised", "true", "late", "false", "missed", "lead_s"):
                    sums[name] = sums.get(name, 0) + score[name]
        return found

    def rows(self, less: frozenset[str]) -> dict[tuple[Partition, str], tuple[bytes, ...]]:
        """
        Every row of every member, column by column: versions lay them out differently.

        Columns of *less* are left out.
        """
        found = {}
        for forecaster in self.forecasters:
            arena = forecaster.engine.table
            names = sorted(set(arena.rows.dtype.names) - {"spare", "novelty", "oddity"} - less)
            for partition, holding in arena._holdings.items():
                for flow, slot in holding.slots.items():
                    row = arena.rows[slot]
                    found[partition, flow] = tuple(row[name].tobytes() for name in names)
        return found
