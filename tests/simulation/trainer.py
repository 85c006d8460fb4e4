"""The trainer of a simulated world: generations come, go, and are sometimes junk."""

from __future__ import annotations

from random import Random

from streamer.core.wire.generations import INCUMBENT, Incumbent, encode, weights_key
from tests.simulation.fingerprint import packed
from tests.simulation.memory import MemoryLog

FIRST = 1  # that the settings have
MOST = 5  # of one world: each costs every page a re-priming


class Trainer:
    """Promotes, rolls back, withdraws and blunders, by chance."""

    def __init__(self, log: MemoryLog, chance: Random) -> None:
        self.log, self.chance = log, chance
        self.served = [FIRST]  # every incumbent that could serve, in its order
        self.number = FIRST
        self.garbled = False  # whether it ever published an unreadable incumbent
        self.there = {FIRST}  # generations whose weights can be had

    @property
    def incumbent(self) -> int:
        return self.served[-1]

    def act(self) -> None:
        if self.number < MOST:
            self.chance.choice([self.promote, self.promote, self.roll_back, self.blunder])()

    def retire(self) -> None:
        """Publish the incumbent for the last time."""
        if self.number < MOST or self.garbled:
            self.decide(self.incumbent, "by_hand")
        self.number = MOST

    def promote(self) -> None:
        """And perhaps withdraw the weights of all that came before the last one."""
        self.number += 1
        self.log.publish_model(weights_key(self.number), packed(self.number))
        self.there.add(self.number)
        self.decide(self.number, "promoted")
        if self.chance.random() < 0.5:
            for old in sorted(self.there - {FIRST, self.number}):
                self.log.publish_model(weights_key(old), None)
                self.there.discard(old)

    def roll_back(self) -> None:
        """To any that can be had."""
        others = sorted(self.there - {self.incumbent})
        if others:
            self.decide(self.chance.choice(others), "rolled_back")

    def blunder(self) -> None:
        """Junk that calls itself the incumbent, weights that are not there, no incumbent at all."""
        self.number += 1
        if self.chance.random() < 0.5:
            self.log.publish_model(
                weights_key(self.number), self.chance.choice([b"", b"junk", packed(0)])
            )
        if self.chance.random() < 0.3:
            self.log.publish_model(INCUMBENT, b"{")
            self.garbled = True
        else:
            named = Incumbent(self.number, self.incumbent, 0.0, "promoted")
            self.log.publish_model(INCUMBENT, encode(named))

    def decide(self, generation: int, reason: str) -> None:
        self.log.publish_model(
            INCUMBENT, encode(Incumbent(generation, self.incumbent, 0.0, reason))
        )
        self.served.append(generation)
