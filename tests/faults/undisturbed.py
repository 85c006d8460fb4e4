"""The same input through one forecaster on the embedded log that nobody disturbs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch

from streamer.config import load, open_client, open_log
from streamer.core.engine import Engine
from streamer.forecaster import Forecaster
from streamer.weights import open_model
from tests.faults.daemons import Group, World, forecasts


class Counting:
    """Counts the records that were taken in."""

    records = 0

    def moved(self, phase) -> None: ...

    def turned(self, turn) -> None:
        self.records += turn.epoch.counts["records"]

    def restored(self, back) -> None: ...

    def refused(self, error, pause_s) -> None:
        raise error


def undisturbed(home: Path, settings: Mapping[str, object], file: Path, feed: list[str]) -> World:
    """Every forecast that *file* calls for."""
    home.mkdir()
    url = f"sqlite:///{home / 'log.db'}"
    group = Group(home, {**settings, "log": url})
    config = load(group.config, (), {})
    (topic,) = config.input.topics
    group.call("topics", "-c", str(group.config), "--create", "--partitions", "4")
    group.call("feed", str(file), "--log", url, "--topic", topic, *feed)
    client = open_client(config)
    total = sum(1 for _ in all_records(client, topic))
    torch.set_num_threads(config.threads)

    model, seen = open_model(config.model), Counting()
    forecaster = Forecaster(
        join=lambda: open_log(config),
        engine=lambda: Engine(model, config.engine),
        turn=config.turn,
        state=config.state,
        state_topic=config.state_topic,
        rejects_topic=config.rejects_topic,
        observer=seen,
        clock=time.monotonic,
        pause=time.sleep,
    )
    forecaster.run(lambda: seen.records == total)
    told = forecasts(each.value for each in all_records(client, config.forecasts.topic))
    client.close()
    return told


def all_records(client, topic: str):
    """What lies in a topic that nobody writes to any more."""
    for records in client.follow([topic], from_start=True):
        if not records:
            return
        yield from records
