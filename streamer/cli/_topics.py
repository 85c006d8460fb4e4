"""The topics that the settings need, beside those that are there."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamer.log import TopicConfig, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from structlog.stdlib import BoundLogger

    from streamer.config.schema import Config

PARTITIONS = 4  # of an input topic that is made


@dataclass(frozen=True, slots=True)
class Finding:
    """A topic that is needed: how it must be laid out, and how it is."""

    topic: str
    wanted: TopicConfig
    found: TopicConfig | None  # None: it does not exist
    because: str = ", as the input has"

    @property
    def narrow(self) -> bool:
        """Whether partitions could be added to it."""
        return self.found is not None and self.found.partitions < self.wanted.partitions

    @property
    def fault(self) -> str | None:
        """What is wrong with it, if anything."""
        if self.found is None:
            return "missing"
        if self.found.compact != self.wanted.compact:
            return f"cleanup.policy must be {policy(self.wanted)}"
        if self.found.partitions != self.wanted.partitions:
            return f"must have {self.wanted.partitions} partitions{self.because}"
        return None


def survey(config: Config, found: Mapping[str, TopicConfig], partitions: int) -> Iterator[Finding]:
    """
    Each topic that *config* needs, beside the one in *found*.

    An input topic may have any number of partitions (*partitions* if it does not exist yet). The
    daemon's own topics must have as many as the widest of them, except those of models, of
    scores and of metrics, whose partitions follow from the key.
    """
    pattern, rekeyed = config.input.pattern, config.input.rekeyed
    named = config.input.read
    inputs = named if pattern is None else sorted(t for t in found if re.match(pattern, t))
    widths = [found[topic].partitions if topic in found else partitions for topic in inputs]
    for topic, width in zip(inputs, widths, strict=True):
        yield Finding(topic, TopicConfig(width, compact=False), found.get(topic))
    output = every = TopicConfig(max(widths, default=partitions), compact=False)
    if rekeyed is not None:  # of any width; forecasters read it instead
        output = TopicConfig((found.get(rekeyed) or output).partitions, compact=False)
        every = TopicConfig(max(output.partitions, every.partitions), compact=False)
        yield Finding(rekeyed, output, found.get(rekeyed))
    yield Finding(config.forecasts.topic, output, found.get(config.forecasts.topic))
    scored = found.get(config.scores.topic)
    any_width = TopicConfig(scored.partitions if scored else output.partitions, compact=False)
    yield Finding(config.scores.topic, any_width, scored)
    if config.metrics.topic is not None:
        metrics = found.get(config.metrics.topic)
        any_width = TopicConfig(metrics.partitions if metrics else output.partitions, compact=False)
        yield Finding(config.metrics.topic, any_width, metrics)
    if config.alerts.enabled:
        alerts = TopicConfig(output.partitions, compact=True)
        yield Finding(config.alerts.topic, alerts, found.get(config.alerts.topic))
    yield Finding(config.rejects_topic, every, found.get(config.rejects_topic))
    state = TopicConfig(output.partitions, compact=True)
    yield Finding(config.state_topic, state, found.get(config.state_topic))
    models = TopicConfig(1, compact=True)  # one partition: its records have one order
    yield Finding(config.models_topic, models, found.get(config.models_topic), ", not more")


def policy(shape: TopicConfig) -> str:
    """Its `cleanup.policy`, in Kafka's words."""
    return "compact" if shape.compact else "delete"


def make_missing(config: Config, lines: BoundLogger) -> None:
    """
    Make the topics that are missing in a SQLite file; those of a broker are its operator's.

    A file that is busy is left as it is: the missing topics are then waited for.
    """
    from streamer.config.schema import open_client

    if not config.log.startswith("sqlite:"):
        return
    try:
        client = open_client(config)
        with contextlib.closing(client):
            for finding in survey(config, client.topics(), PARTITIONS):
                if finding.found is None:
                    client.create(finding.topic, finding.wanted)
                    partitions = finding.wanted.partitions
                    lines.info("topic.created", topic=finding.topic, partitions=partitions)
            pattern = config.input.pattern
            if pattern is not None and not any(re.match(pattern, t) for t in client.topics()):
                lines.warning("input.unmatched", pattern=pattern)
    except Unavailable as error:
        lines.debug("topics.not_made", reason=str(error))
