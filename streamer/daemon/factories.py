"""Builds a forecaster and a trainer from the settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from streamer.config.schema import Config, open_client, open_log, open_rekeyers, open_trainers
from streamer.core.alerts.rules import AlertsConfig
from streamer.core.budget import Budget
from streamer.core.engine import Engine
from streamer.core.registry.validation import weights_validator
from streamer.daemon.events import Observer
from streamer.daemon.forecaster import Forecaster
from streamer.daemon.pacing import Pacing
from streamer.daemon.rekeyer import Observer as RekeyerObserver
from streamer.daemon.rekeyer import Rekeyer
from streamer.daemon.trainer import Observer as TrainerObserver
from streamer.daemon.trainer import Trainer
from streamer.log import Client, Misconfigured, TopicMissing
from streamer.weights import open_model, open_peak_head

Pause = Callable[[float], None]  # waits for so many seconds, or until a stop is requested


def wire_forecaster(
    config: Config, observer: Observer, *, clock: Callable[[], float], pause: Pause
) -> Forecaster:
    """Build a forecaster; raises ConfigError if the model's weights are unavailable."""
    model = open_model(config.model, trained_later=config.trainer.enabled)
    admit, head = weights_validator(config.model), open_peak_head()

    def engine() -> Engine:
        try:
            return Engine(model, config.engine, admit=admit, budget=Budget(), peak_head=head)
        except MemoryError as error:
            raise Misconfigured(
                f"flows_max: {config.flows_max:,} rows do not fit: {error}"
            ) from error

    return Forecaster(
        join=lambda: open_log(config),
        engine=engine,
        pacing=Pacing(config.turn, config.state, config.generation, clock),
        state_topic=config.state_topic,
        rejects_topic=config.rejects_topic,
        models_topic=config.models_topic,
        observer=observer,
        clock=clock,
        pause=pause,
    )


def wire_trainer(config: Config, observer: TrainerObserver, *, pause: Pause) -> Trainer:
    """Build a trainer."""
    admit = weights_validator(config.model)
    engine = config.engine_of(config.trainer.flows_max)
    engine = msgspec.structs.replace(engine, alerts=AlertsConfig())  # only forecasters raise alerts
    return Trainer(
        join=lambda: open_trainers(config),
        client=lambda: open_client(config),
        inputs=lambda client: inputs(config, client),
        model=lambda: open_model(config.model, trained_later=True),
        admit=admit,
        engine=lambda model: Engine(model, engine, admit=admit),
        models_topic=config.models_topic,
        settings=config.trainer,
        finetune=config.finetune,
        rules=config.contest,
        observer=observer,
        pause=pause,
    )


def wire_rekeyer(
    config: Config,
    topic: str,
    observer: RekeyerObserver,
    *,
    clock: Callable[[], float],
    pause: Pause,
) -> Rekeyer:
    """Build a rekeyer that writes to *topic*."""
    return Rekeyer(
        join=lambda: open_rekeyers(config),
        config=config.input,
        turn=config.turn,
        topic=topic,
        rejects_topic=config.rejects_topic,
        observer=observer,
        clock=clock,
        pause=pause,
        labels=config.forecasts.labels,
    )


def inputs(config: Config, client: Client) -> Sequence[str]:
    """Return the input topics; raises TopicMissing."""
    there, read = client.topics(), config.readings_input
    if read.pattern is not None:
        named = sorted(name for name in there if re.match(read.pattern, name))
        if named:
            return named
        raise TopicMissing([read.pattern])
    missing = [name for name in read.read if name not in there]
    if missing:
        raise TopicMissing(missing)
    return read.read
