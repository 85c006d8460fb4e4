"""The settings of the input: topics, formats, and the defaults for what messages leave out."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from streamer.config.types import Duration, Settings
from streamer.core.wire import times
from streamer.core.wire.context import Collectd, FlowKey, Options
from streamer.core.wire.mapped import MappingConfig
from streamer.core.wire.mappings import Field, Group
from streamer.core.wire.parsed import KindName

UNIT_BYTES = 12
DEFAULT_TOPICS = ("traffic.counters",)
PLACES = ("topics", "pattern")  # of a source: where it is, not how it is read
FormatName = Literal[
    "auto",
    "reading",
    "telegraf_json",
    "influx",
    "gnmic_event",
    "gnmic_json",
    "gnmic_protojson",
    "goflow2_json",
    "goflow2_bin",
    "goflow2_raw",
    "goflow_v1_json",
    "pmacct_json",
    "prometheus_kafka_adapter",
    "prometheus_export",
    "otlp_json",
    "otlp_proto",
    "collectd_json",
    "collectd_command",
    "graphite",
    "beats",
    "vector",
    "fluent_bit",
    "librenms",
    "zabbix",
    "nprobe",
    "cisco_pipeline",
    "yang_push",
    "mapped",
]

KeysMax = Annotated[int, msgspec.Meta(ge=1, le=40_000)]  # saved in one record of 640 kB at most
Unit = Annotated[str, msgspec.Meta(min_length=1, max_length=UNIT_BYTES, pattern="^[ -~]*$")]


class SourceConfig(Settings, frozen=True, kw_only=True):
    """Topics with settings of their own; what is null is as in `input`."""

    topics: tuple[str, ...] = ()
    pattern: str | None = None  # topics among those of input.pattern
    format: FormatName | None = None
    kind: KindName | None = None
    unit: Unit | None = None
    counter_bits: Literal[0, 32, 64] | None = None
    groups: tuple[Group, ...] | None = None
    fields: tuple[Field, ...] | None = None
    mapping: MappingConfig | None = None
    device: str | None = None
    timezone: str | None = None
    flow_key: FlowKey | None = None
    flow_keys_max: KeysMax | None = None
    flow_keys_idle: Duration | None = None
    spread: Duration | None = None
    collectd: Collectd | None = None

    def has(self, topic: str) -> bool:
        """Whether a topic is of this source."""
        return topic in self.topics or (
            self.pattern is not None and re.match(self.pattern, topic) is not None
        )

    @property
    def own(self) -> dict[str, Any]:
        """What differs from `input`."""
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {n: value for n, value in fields if value is not None and n not in PLACES}


class InputConfig(Settings, frozen=True, kw_only=True):
    """The input topics, and the defaults for what readings leave out."""

    topics: tuple[str, ...] = DEFAULT_TOPICS
    pattern: str | None = None  # a regular expression of topic names, instead of topics
    sources: tuple[SourceConfig, ...] = ()  # more topics, each with settings of its own
    rekeyed: str | None = None  # the topic of a rekeyer, which forecasters then read instead
    format: FormatName = "auto"
    kind: Literal["counter", "delta", "gauge"] = "counter"
    unit: Unit | None = None  # of the value; None: B, and B/s of a gauge
    counter_bits: Literal[0, 32, 64] = 0  # 0: from the mapping, else inferred when a counter falls
    rate_max: Annotated[float, msgspec.Meta(gt=0, le=1e30)] = 1e12  # units per second
    repeats: bool = False  # equal deltas of one time are distinct, not duplicates
    start: Literal["earliest", "latest"] = "earliest"  # for a group without committed offsets
    ahead_max: Duration = Duration(3600)  # a reading may be ahead of its record's timestamp
    record_bytes_max: Annotated[int, msgspec.Meta(gt=0, le=2**26)] = 8 * 2**20
    flow_bytes_max: Annotated[int, msgspec.Meta(gt=0, le=4096)] = 512
    groups: tuple[Group, ...] = ("bytes",)  # of the table's fields: packets, errors, drops too
    fields: tuple[Field, ...] = ()  # rows before those of the table
    mapping: MappingConfig | None = None  # of JSON that is in none of the formats
    device: str | None = None  # of messages that do not name it
    timezone: str = "UTC"  # of times in text without a zone
    flow_key: FlowKey = "interface"  # by which flow records are added up
    flow_keys_max: KeysMax = 10_000  # addresses, prefixes, AS pairs or ports of a partition
    flow_keys_idle: Duration = Duration(3600)  # a key without records gives up its place
    spread: Duration = Duration(0)  # longer flow records are cut into parts; 0: none
    collectd: Collectd = "auto"  # what values of collectd and Graphite are

    def __post_init__(self) -> None:
        if self.format == "mapped" and self.mapping is None:
            raise ValueError("mapping: must be set for the format mapped, is null")
        try:
            times.zone(self.timezone)
        except ValueError as error:
            raise ValueError(f"timezone: {error}") from None
        for i, source in enumerate(self.sources):
            if not source.topics and source.pattern is None:
                raise ValueError(f"sources.{i}.topics: must name a topic, or set pattern")
            try:
                re.compile(source.pattern or "")
                self.of_source(i)
            except re.error as error:
                what = f"must be a regular expression: {error}"
                raise ValueError(f"sources.{i}.pattern: {what}") from None
            except ValueError as error:
                raise ValueError(f"sources.{i}.{error}") from None

    @property
    def read(self) -> tuple[str, ...]:
        """All topics by name; the default one is not read where there are sources."""
        own = () if self.sources and self.topics == DEFAULT_TOPICS else self.topics
        named = (*own, *(topic for source in self.sources for topic in source.topics))
        return tuple(dict.fromkeys(named))

    def source_of(self, topic: str) -> int:
        """The number of the first source that has *topic*; -1 if none has it."""
        return next((i for i, source in enumerate(self.sources) if source.has(topic)), -1)

    def of_source(self, number: int) -> InputConfig:
        """How the topics of a source are read, with all that its messages leave out."""
        own = {} if number < 0 else self.sources[number].own
        return msgspec.structs.replace(self, sources=(), **own)

    @property
    def options(self) -> Options:
        """What the formats depend on."""
        return Options(
            self.device,
            self.timezone,
            self.flow_key,
            float(self.spread),
            self.kind,
            self.collectd,
        )
