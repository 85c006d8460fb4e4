"""Stands in for a trainer of a group under faults: the shipped weights, changed a little."""

from __future__ import annotations

from pathlib import Path

import torch

from streamer.config.schema import load, open_log
from streamer.core.network.model import pack, unpack
from streamer.core.types import Message
from streamer.core.wire.generations import INCUMBENT, Incumbent, encode, weights_key
from streamer.weights import shipped
from tests.faults.daemons import until

OFF = 0.02  # of a tensor's own spread


class Teacher:
    """Promotes in one transaction, rolls back now and then, and knows what it promoted."""

    def __init__(self, config: Path) -> None:
        self.settings = config
        self.topic = load(config, (), {}).models_topic
        self.served = [0]  # every incumbent in its order; 0 is shipped
        self.number = 0

    def promote(self) -> None:
        """Every fourth time an older one comes back instead."""
        if self.number and self.number % 4 == 0 and self.served[-1] == self.number:
            self._tell([], self.number - 1, "rolled_back")
            return
        self.number += 1
        message = Message(self.topic, 0, weights_key(self.number), weights(self.number))
        self._tell([message], self.number, "promoted")

    def _tell(self, messages: list[Message], generation: int, reason: str) -> None:
        incumbent = Incumbent(generation, self.served[-1], 0.0, reason)  # type: ignore[arg-type]
        aside = ["group=teacher", "instance=teacher", f"input.topics=[{self.topic}]"]
        log = open_log(load(self.settings, aside, {}))
        try:
            until(lambda: bool(log.poll(0.2, 1).assigned), 60, "the teacher has the models topic")
            log.publish([*messages, Message(self.topic, 0, INCUMBENT, encode(incumbent))], {})
        finally:
            log.close()
        self.served.append(generation)


def weights(seed: int) -> bytes:
    """The shipped ones, each weight a little off."""
    packed = shipped("lstm")
    network, made = unpack(packed)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in network.parameters():
            spread = each.std() if each.numel() > 1 else 0.0
            each.add_(torch.randn(each.shape, generator=chance), alpha=OFF * float(spread))
    return pack(network, made)
