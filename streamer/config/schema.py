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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from streamer.config import sources
from streamer.config.errors import describe_error, sections, shown
from streamer.config.sources import ConfigError, Keys, Tree
from streamer.config.types import Duration, Settings, decode_hook
from streamer.console.settings import ConsoleConfig
from streamer.core.alerts import rules
from streamer.core.alerts.rules import AlertsConfig
from streamer.core.engine import EngineConfig
from streamer.core.features.grid import GAP_MAX, GridConfig
from streamer.core.network.config import ModelConfig, weights_bytes
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
from streamer.notify import settings as notify_settings
from streamer.notify.settings import NotifyConfig
from streamer.ops.coverage_slo import ObjectiveConfig
from streamer.ops.http import HttpConfig
from streamer.ops.metrics_topic import MetricsConfig
from streamer.ops.telemetry import TelemetryConfig
from streamer.training.settings import FinetuneConfig, TrainerConfig

POLL_MAX_S = 10.0  # a stop waits for the end of a poll
RATE_BYTES = 4  # of a step of a flow in the trainer's history
HISTORY_SHARE = 0.9  # of the trainer's memory, at most
JUDGED_MAX = 2**16 - 1  # forecasts of a flow in one score
PORT_END = 1 << 16
SCHEMES = ("kafka://", "sqlite://")
NAME = r"[A-Za-z0-9._-]{1,249}"  # of topics, groups and members, as Kafka accepts them
NAME_WORDS = "letters, digits, dots, dashes or underscores, 249 at most"
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


def contradictions(config: Config) -> Iterator[tuple[Keys, str]]:
    """Contradictions between settings: each key and what is wrong."""
    yield from _log_contradictions(config.log)
    try:
        config.grid  # noqa: B018 - asked only whether it can be had
    except ValueError as error:
        key, _, what = str(error).partition(": ")
        yield (key,), what
    if not config.state.interval:
        yield ("state", "interval"), "must be longer than 0s"
    if config.turn.poll_timeout > POLL_MAX_S:
        yield ("turn", "poll_timeout"), f"must be at most 10s, is {config.turn.poll_timeout}"
    if not config.step <= config.scores.every <= JUDGED_MAX * config.step:
        steps = f"must be 1 to {JUDGED_MAX:,} steps of {config.step}"
        yield ("scores", "every"), f"{steps}, is {config.scores.every}"
    if config.objective.coverage_min >= config.objective.coverage_max:
        yield ("objective", "coverage_max"), "must be above objective.coverage_min"
    if config.finetune.every < config.step:
        yield ("finetune", "every"), f"must be at least a step, is {config.finetune.every}"
    if not config.finetune.half_life:
        yield ("finetune", "half_life"), "must be longer than 0s"
    if not config.trainer.hang_timeout:
        yield ("trainer", "hang_timeout"), "must be longer than 0s"
    if config.trainer.window < 2 * config.finetune.every:
        yield ("trainer", "window"), "must be twice finetune.every: to be trained on, and judged"
    yield from _size_contradictions(config)
    yield from _service_contradictions(config)
    yield from _alert_contradictions(config)
    yield from _input_contradictions(config.input)
    yield from _topic_contradictions(config)


def _size_contradictions(config: Config) -> Iterator[tuple[Keys, str]]:
    """What would be too large: for the trainer's memory, or for a message."""
    if not config.trainer.enabled:
        return
    trainer, limit = config.trainer, config.trainer.memory_bytes_max
    history = RATE_BYTES * trainer.flows_max * int(trainer.window / config.step)
    if history > HISTORY_SHARE * limit:
        need = f"takes {history:,} bytes for trainer.flows_max flows in steps of {config.step}"
        yield ("trainer", "window"), f"{need}, and trainer.memory_bytes_max is {limit:,}"
    size, most = weights_bytes(config.model), config.kafka.message_bytes_max
    if config.log.startswith("kafka:") and size > most:
        need = f"makes weights of {size:,} bytes, and kafka.message_bytes_max is {most:,}"
        yield (
            ("model", "hidden"),
            f"{need}: raise it, and max.message.bytes of {config.models_topic}",
        )


def _service_contradictions(config: Config) -> Iterator[tuple[Keys, str]]:
    """Metrics and probes."""
    if config.metrics.every < 1:
        yield ("metrics", "every"), f"must be at least 1s, is {config.metrics.every}"
    for key in ("bind", "trainer_bind", "notifier_bind", "rekeyer_bind"):
        bind = getattr(config.http, key)
        if bind is not None and int(bind.rpartition(":")[2]) >= PORT_END:
            yield ("http", key), f"must be host:port, is {bind}"
    if config.http.stall_max < 1:
        yield ("http", "stall_max"), f"must be at least 1s, is {config.http.stall_max}"
    if int(config.console.bind.rpartition(":")[2]) >= PORT_END:
        yield ("console", "bind"), f"must be host:port, is {config.console.bind}"
    if config.console.keep < config.step:
        yield ("console", "keep"), f"must be at least a step, is {config.console.keep}"


def _log_contradictions(url: str) -> Iterator[tuple[Keys, str]]:
    """An address that no log can be opened by; what may be a secret in it is not repeated."""
    scheme, _, where = url.partition("://")
    if "@" in where and scheme != "sqlite":
        yield ("log",), "must not hold a user or a password: see kafka.sasl_username"
    elif not url.startswith(SCHEMES):
        yield ("log",), f"must begin with {' or '.join(SCHEMES)}, is {url}"
    elif "\0" in url:
        yield ("log",), "must not hold a NUL"
    elif scheme == "sqlite" and (not where.startswith("/") or where.endswith("/")):
        yield ("log",), f"must name a file, as sqlite:///relative/path, is {url}"
    elif scheme == "kafka":
        for server in where.split(","):
            found = re.fullmatch(r"\s*(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?\s*", server)
            if found is None or not 0 < int(found[2] or 9092) < PORT_END:
                yield ("log",), f"must be kafka://host:port[,host:port], is {url}"
                return


def _input_contradictions(config: InputConfig) -> Iterator[tuple[Keys, str]]:
    if config.pattern is None and any(source.pattern for source in config.sources):
        yield (
            ("input", "pattern"),
            "must be set where a source has a pattern: it determines what is read",
        )
    if not config.read and config.pattern is None:
        yield ("input", "topics"), "must name a topic where there is no input.pattern"
    for topic in config.read:
        if not is_name(topic):
            yield ("input", "topics"), f"must be {NAME_WORDS}, is {shown(topic)}"
    try:
        re.compile(config.pattern or "")
    except re.error as error:
        yield ("input", "pattern"), f"must be a regular expression: {error}"


def _alert_contradictions(config: Config) -> Iterator[tuple[Keys, str]]:
    """Rules that do not fit the forecasts; only those in force matter."""
    made = config.forecasts
    found = rules.contradictions(config.alerts.in_force, config.step, made.horizons, made.quantiles)
    for keys, what in found:
        yield ("alerts", "rules", *keys), what
    for keys, what in notify_settings.contradictions(config.notify):
        yield ("notify", *keys), what


def is_name(topic: str) -> bool:
    """Whether a topic can have that name."""
    return re.fullmatch(NAME, topic) is not None and topic not in {".", ".."}


def _topic_contradictions(config: Config) -> Iterator[tuple[Keys, str]]:
    """Output must never be read as input, nor share a topic with anything else."""
    taken: dict[str, Keys] = dict.fromkeys(config.input.read, ("input", "topics"))
    for keys, topic in (
        (("input", "rekeyed"), config.input.rekeyed),
        (("forecasts", "topic"), config.forecasts.topic),
        (("scores", "topic"), config.scores.topic),
        (("alerts", "topic"), config.alerts.topic),
        (("rejects", "topic"), config.rejects_topic),
        (("state", "topic"), config.state_topic),
        (("generation", "topic"), config.models_topic),
        (("metrics", "topic"), config.metrics.topic),
    ):
        if topic is None:
            continue
        if not is_name(topic):
            yield keys, f"must be {NAME_WORDS}, is {shown(topic)}"
        if topic in taken:
            yield keys, f"must be a topic of its own, {topic} is in {'.'.join(taken[topic])}"
        if config.input.pattern is not None and re.match(config.input.pattern, topic):
            yield keys, f"must not be input, and input.pattern takes in {topic}"
        taken[topic] = keys


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
