"""
All settings in one struct, and how a file becomes one.

Each section lives beside the code that reads it; here they are only put
together and held against each other. What can't be right is refused at start,
with the path of its key: `forecasts.batch: must be an integer of at least 1, is 0`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from streamer.config import sources
from streamer.config.contradictions import NAME, contradictions
from streamer.config.errors import describe_error, sections, shown
from streamer.config.sources import ConfigError, Keys, Tree
from streamer.config.types import Duration, Settings, decode_hook
from streamer.console.settings import ConsoleConfig
from streamer.core.alerts.rules import AlertsConfig
from streamer.core.engine import EngineConfig
from streamer.core.features.grid import GAP_MAX, GridConfig
from streamer.core.network.config import ModelConfig
from streamer.core.registry.promotion import ContestConfig
from streamer.core.wire import InputConfig
from streamer.core.wire.forecasts import ForecastsConfig
from streamer.core.wire.scores import ScoresConfig
from streamer.daemon.settings import GenerationConfig, StateConfig, TurnConfig
from streamer.log import Client, Log, Unavailable
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.log import KafkaLog
from streamer.log.kafka.settings import KafkaSettings
from streamer.log.sqlite.log import SqliteClient, SqliteLog, SqliteSettings, path_of
from streamer.notify.settings import NotifyConfig
from streamer.ops.coverage_slo import ObjectiveConfig
from streamer.ops.http import HttpConfig
from streamer.ops.metrics_topic import MetricsConfig
from streamer.ops.telemetry import TelemetryConfig
from streamer.training.settings import FinetuneConfig, TrainerConfig

Name = Annotated[str, msgspec.Meta(pattern=rf"^{NAME}\Z")]


class RejectsConfig(Settings, frozen=True, kw_only=True):
    """The topic of input that is not a reading."""

    topic: str | None = None  # None: the group's name with .rejects


class Config(Settings, frozen=True, kw_only=True):
    """All settings; the defaults are for a broker on this machine."""

    log: str = "kafka://localhost:9092"
    group: Name = "streamer"
    instance: Name | None = None  # None: the host's name
    step: Duration = Duration(60)
    lateness: Duration = Duration(0)
    gap_max: Annotated[int, msgspec.Meta(ge=1, le=GAP_MAX)] = 60
    flows_max: Annotated[int, msgspec.Meta(ge=1, le=50_000_000)] = 200_000
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    input: InputConfig = InputConfig()
    forecasts: ForecastsConfig = ForecastsConfig()
    scores: ScoresConfig = ScoresConfig()
    alerts: AlertsConfig = AlertsConfig()
    notify: NotifyConfig = NotifyConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    rejects: RejectsConfig = RejectsConfig()
    state: StateConfig = StateConfig()
    model: ModelConfig = ModelConfig()
    generation: GenerationConfig = GenerationConfig()
    trainer: TrainerConfig = TrainerConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    contest: ContestConfig = ContestConfig()
    turn: TurnConfig = TurnConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    metrics: MetricsConfig = MetricsConfig()
    http: HttpConfig = HttpConfig()
    console: ConsoleConfig = ConsoleConfig()
    kafka: KafkaSettings = KafkaSettings()
    sqlite: SqliteSettings = SqliteSettings()

    @property
    def instance_name(self) -> str:
        """The name that no other member of the group has."""
        return self.instance or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:249]

    @property
    def rejects_topic(self) -> str:
        """The topic of input that is not a reading."""
        return self.rejects.topic or f"{self.group}.rejects"

    @property
    def state_topic(self) -> str:
        """Where rows are saved."""
        return self.state.topic or f"{self.group}.state"

    @property
    def trainers_group(self) -> str:
        """The consumer group of those that train: the holder of the models topic learns."""
        return f"{self.group}.trainers"

    @property
    def notifiers_group(self) -> str:
        """The consumer group of those that deliver alerts."""
        return f"{self.group}.notifiers"

    @property
    def rekeyers_group(self) -> str:
        """The consumer group of those that re-key."""
        return f"{self.group}.rekeyers"

    @property
    def readings_input(self) -> InputConfig:
        """What forecasters and trainers read: the input, or the topic of the rekeyer."""
        if self.input.rekeyed is None:
            return self.input
        return msgspec.structs.replace(
            self.input,
            topics=(self.input.rekeyed,),
            pattern=None,
            sources=(),
            rekeyed=None,
            format="reading",
            counter_bits=0,
            mapping=None,
        )

    @property
    def models_topic(self) -> str:
        """Where generations of weights come from."""
        return self.generation.topic or f"{self.group}.models"

    @property
    def grid(self) -> GridConfig:
        """How time is cut; raises ValueError if the keys above contradict each other."""
        return GridConfig(
            step=self.step,
            lateness=self.lateness,
            gap_max=self.gap_max,
            rate_max=self.input.rate_max,
            repeats=self.input.repeats,
        )

    @property
    def engine(self) -> EngineConfig:
        """All that bears on what is forecast."""
        return self.engine_of(self.flows_max)

    def engine_of(self, flows_max: int) -> EngineConfig:
        """The same for another number of flows."""
        return EngineConfig(
            flows_max=flows_max,
            input=self.readings_input,
            grid=self.grid,
            forecasts=self.forecasts,
            scores=self.scores,
            alerts=self.alerts,
        )


def load(
    path: Path | None = None,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Config:
    """
    The settings in the file *path*, under those of *environ*, under *overrides*.

    Each override is `path=value`. Raises ConfigError, with the path of the key
    that is wrong, before anything else is done.
    """
    tree = {} if path is None else sources.read(path)
    named_by: dict[Keys, str] = {}
    for setting in (*sources.from_environ(environ or {}), *sources.from_overrides(overrides)):
        sources.lay(tree, setting)
        named_by[setting.keys] = setting.source
    for keys, number in sources.not_finite(tree):
        raise ConfigError(_located(keys, f"must be a finite number, is {number}", named_by, path))
    try:
        config = msgspec.convert(_without_bare_sections(tree, Config), Config, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise ConfigError(_located(*describe_error(error, tree, Config), named_by, path)) from None
    for keys, what in contradictions(config):
        raise ConfigError(_located(keys, what, named_by, path))
    return config


def effective(config: Config) -> str:
    """All of *config* as YAML that `load` takes back; of a secret only that it is set."""
    return sources.render(_plain(config))


def open_log(config: Config) -> Log:
    """Join the group on the log that the settings name; may raise a LogError."""
    return _reader(config, config.group, config.readings_input)


def open_rekeyers(config: Config) -> Log:
    """Join the rekeyers' group, over the input topics; may raise a LogError."""
    return _reader(config, config.rekeyers_group, config.input)


def _reader(config: Config, group: str, read: InputConfig) -> Log:
    return _member(config, group=group, topics=read.read, pattern=read.pattern, start=read.start)


def open_trainers(config: Config) -> Log:
    """Join the trainers' group, over the models topic; may raise a LogError."""
    return _member(
        config,
        group=config.trainers_group,
        topics=(config.models_topic,),
        pattern=None,
        start="earliest",
    )


def open_notifiers(config: Config) -> Log:
    """Join the notifiers' group, over the alerts topic; may raise a LogError."""
    return _member(
        config,
        group=config.notifiers_group,
        topics=(config.alerts.topic,),
        pattern=None,
        start="earliest",
    )


def _member(config: Config, **member: Any) -> Log:  # noqa: ANN401 - as both logs take it
    scheme, _, where = config.log.partition("://")
    member["instance"] = config.instance_name
    if scheme == "sqlite":
        return SqliteLog(path_of(config.log), config.sqlite, **member)
    return KafkaLog(where, config.kafka, **member)


def open_client(where: Config | str, *, existing: bool = False) -> Client:
    """
    What the command line asks of a log; may raise a LogError.

    Of an address alone, the rest of the settings comes from the environment. A SQLite file that
    is not there is made, unless it has to be *existing*.
    """
    if isinstance(where, str):
        where = load(None, [f"log={shown(where)}"], os.environ)
    scheme, _, servers = where.log.partition("://")
    if scheme == "sqlite":
        if existing and not path_of(where.log).exists():
            raise Unavailable(f"{path_of(where.log)}: there is no such file")
        return SqliteClient(path_of(where.log), where.sqlite)
    return KafkaClient(servers, where.kafka)


def _plain(value: object) -> Any:  # noqa: ANN401 - a tree of plain values
    match value:
        case Settings():
            return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        case Duration():
            return str(value)
        case tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def _without_bare_sections(tree: Tree, kind: type[Settings]) -> Tree:
    """*tree* less the sections whose keys are all commented out."""
    below = sections(kind)
    return {
        key: _without_bare_sections(value, below[key])
        if key in below and isinstance(value, dict)
        else value
        for key, value in tree.items()
        if not (key in below and value is None)
    }


def _located(keys: Keys, what: str, named_by: Mapping[Keys, str], path: Path | None) -> str:
    """One line: the key's path, what is wrong, and where it was set."""
    for end in range(len(keys), 0, -1):
        if keys[:end] in named_by:
            return f"{'.'.join(keys)}: {what} ({named_by[keys[:end]]})"
    return f"{'.'.join(keys)}: {what}" + (f" ({path})" if path else "")
