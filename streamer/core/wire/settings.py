"""The settings of the input: topics, formats, and the defaults for what messages do not say."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streamer.config.types import Duration, Settings
from streamer.core.wire import times
from streamer.core.wire.context import Collectd, FlowKey, Options
from streamer.core.wire.mapped import MappingConfig
from streamer.core.wire.mappings import Field, Group

UNIT_BYTES = 12
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

Unit = Annotated[str, msgspec.Meta(min_length=1, max_length=UNIT_BYTES, pattern="^[ -~]*$")]


class InputConfig(Settings, frozen=True, kw_only=True):
    """The input topics, and the defaults for what readings do not say themselves."""

    topics: tuple[str, ...] = ("traffic.counters",)
    pattern: str | None = None  # a regular expression of topic names, instead of topics
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
    spread: Duration = Duration(0)  # longer flow records are cut into parts; 0: none
    collectd: Collectd = "auto"  # what values of collectd and Graphite are

    def __post_init__(self) -> None:
        if self.format == "mapped" and self.mapping is None:
            raise ValueError("mapping: must be set for the format mapped, is null")
        try:
            times.zone(self.timezone)
        except ValueError as error:
            raise ValueError(f"timezone: {error}") from None

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
