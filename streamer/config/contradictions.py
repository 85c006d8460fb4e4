"""Settings held against each other: each key that cannot be right, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamer.config.errors import shown
from streamer.config.sources import Keys
from streamer.core.alerts import rules
from streamer.core.network.config import weights_bytes
from streamer.core.wire import InputConfig
from streamer.notify import settings as notify_settings

if TYPE_CHECKING:
    from streamer.config.schema import Config

POLL_MAX_S = 10.0  # a stop waits for the end of a poll
RATE_BYTES = 4  # of a step of a flow in the trainer's history
HISTORY_SHARE = 0.9  # of the trainer's memory, at most
JUDGED_MAX = 2**16 - 1  # forecasts of a flow in one score
PORT_END = 1 << 16
SCHEMES = ("kafka://", "sqlite://")
NAME = r"[A-Za-z0-9._-]{1,249}"  # of topics, groups and members, as Kafka accepts them
NAME_WORDS = "letters, digits, dots, dashes or underscores, 249 at most"


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
