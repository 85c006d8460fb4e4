"""
The table of fields: which field of which format is a counter, a delta or a gauge.

A kind is never guessed from values: a field that is in no row is skipped and counted by its name.
Only rows of the wanted groups apply, by default `bytes`; the others can be switched on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import msgspec

from streamer.config.types import Settings
from streamer.core.wire.parsed import KindName

Direction = Literal["in", "out"]
Group = Literal["bytes", "packets", "errors", "drops"]
Source = Literal[
    "telegraf",
    "gnmi",
    "prometheus",
    "otlp",
    "collectd",
    "graphite",
    "beats",
    "vector",
    "fluent_bit",
    "nprobe",
    "librenms",
    "zabbix",
    "cisco",
    "yang_push",
]
SUFFIX = {"bytes": "", "packets": "/packets", "errors": "/errors", "drops": "/drops"}
FACTOR = {"B": 1.0, "b": 1 / 8, "B/s": 1.0, "b/s": 1 / 8}  # to bytes


class Field(Settings, frozen=True, kw_only=True):
    """One row: the meaning of a field of a format."""

    source: Source
    field: str  # its name; of a path, its last element
    direction: Direction
    kind: KindName | None = "counter"  # None: the message has it
    unit: Annotated[str, msgspec.Meta(min_length=1, max_length=12, pattern="^[ -~]*$")] = "B"
    bits: Literal[0, 32, 64] = 64
    rank: int = 0  # if one interface has several in one message, the lowest counts
    group: Group = "bytes"
    measurement: str = "*"  # a pattern of the names of measurements

    @property
    def suffix(self) -> str:
        """What a flow's name ends in."""
        return f"/{self.direction}{SUFFIX[self.group]}"


def _pair(  # noqa: PLR0913 - a row of a table
    source: Source,
    into: str,
    out: str,
    kind: KindName | None = "counter",
    unit: str = "B",
    bits: Literal[0, 32, 64] = 64,
    rank: int = 0,
    group: Group = "bytes",
) -> tuple[Field, Field]:
    """The rows of both directions."""
    first = Field(
        source=source,
        field=into,
        direction="in",
        kind=kind,
        unit=unit,
        bits=bits,
        rank=rank,
        group=group,
    )
    second = msgspec.structs.replace(first, field=out, direction="out")
    return first, second


def _packets(source: Source, into: str, out: str, group: Group = "packets") -> tuple[Field, Field]:
    return _pair(source, into, out, unit=group, group=group)


def _wide(source: Source, *names: str) -> tuple[Field, ...]:
    """IOS-XE sends `out-octets` in 32 bits, and in 64 bits beside it; `in-octets` has 64."""
    return tuple(Field(source=source, field=name, direction="out", rank=-1) for name in names)


DEFAULTS: tuple[Field, ...] = (
    *_pair("telegraf", "ifHCInOctets", "ifHCOutOctets"),
    *_pair("telegraf", "ifInOctets", "ifOutOctets", bits=32, rank=1),
    *_pair("telegraf", "bytes_recv", "bytes_sent"),
    *_pair("telegraf", "in_octets", "out_octets"),
    *_pair("telegraf", "in-octets", "out-octets"),
    *_wide("telegraf", "out-octets-64", "out_octets_64"),
    *_pair("telegraf", "bytes-received", "bytes-sent"),
    _pair("telegraf", "bytes_received", "bytes_sent")[0],
    *_packets("telegraf", "ifHCInUcastPkts", "ifHCOutUcastPkts"),
    *_packets("telegraf", "packets_recv", "packets_sent"),
    *_packets("telegraf", "in_pkts", "out_pkts"),
    *_packets("telegraf", "ifInErrors", "ifOutErrors", "errors"),
    *_packets("telegraf", "err_in", "err_out", "errors"),
    *_packets("telegraf", "ifInDiscards", "ifOutDiscards", "drops"),
    *_packets("telegraf", "drop_in", "drop_out", "drops"),
    *_pair("gnmi", "in-octets", "out-octets"),
    *_wide("gnmi", "out-octets-64"),
    *_pair("gnmi", "bytes-received", "bytes-sent"),
    *_pair("gnmi", "receive-byte", "send-byte"),
    *_packets("gnmi", "in-pkts", "out-pkts"),
    *_packets("gnmi", "in-errors", "out-errors", "errors"),
    *_packets("gnmi", "in-discards", "out-discards", "drops"),
    *_pair("cisco", "bytes-received", "bytes-sent"),
    *_pair("cisco", "in-octets", "out-octets"),
    *_wide("cisco", "out-octets-64"),
    *_packets("cisco", "packets-received", "packets-sent"),
    *_packets("cisco", "input-errors", "output-errors", "errors"),
    *_packets("cisco", "input-drops", "output-drops", "drops"),
    *_pair("yang_push", "receive-byte", "send-byte"),
    *_pair("yang_push", "in-octets", "out-octets"),
    *_wide("yang_push", "out-octets-64"),
    *_packets("yang_push", "receive-packet", "send-packet"),
    *_pair("prometheus", "ifHCInOctets", "ifHCOutOctets"),
    *_pair("prometheus", "node_network_receive_bytes_total", "node_network_transmit_bytes_total"),
    *_pair("prometheus", "node_network_receive_bytes", "node_network_transmit_bytes"),
    *_pair("prometheus", "windows_net_bytes_received_total", "windows_net_bytes_sent_total"),
    *_pair("prometheus", "net_bytes_recv", "net_bytes_sent"),
    *_pair("prometheus", "interface_ifHCInOctets", "interface_ifHCOutOctets"),
    *_packets(
        "prometheus", "node_network_receive_packets_total", "node_network_transmit_packets_total"
    ),
    *_packets(
        "prometheus",
        "node_network_receive_errs_total",
        "node_network_transmit_errs_total",
        "errors",
    ),
    *_packets(
        "prometheus", "node_network_receive_drop_total", "node_network_transmit_drop_total", "drops"
    ),
    *_packets("prometheus", "ifHCInUcastPkts", "ifHCOutUcastPkts"),
    *_packets("prometheus", "ifInErrors", "ifOutErrors", "errors"),
    *_packets("prometheus", "ifInDiscards", "ifOutDiscards", "drops"),
    *_pair("otlp", "system.network.io:receive", "system.network.io:transmit", None),
    *_pair("otlp", "hw.network.io:receive", "hw.network.io:transmit", None),
    *_packets("otlp", "system.network.packets:receive", "system.network.packets:transmit"),
    *_packets("otlp", "system.network.errors:receive", "system.network.errors:transmit", "errors"),
    *_packets("otlp", "system.network.dropped:receive", "system.network.dropped:transmit", "drops"),
    *_pair("collectd", "if_octets.rx", "if_octets.tx", None, bits=0),
    *_pair("graphite", "if_octets.rx", "if_octets.tx", None, bits=0),
    *_pair("graphite", "if_octets-rx", "if_octets-tx", None, bits=0),
    *_pair("graphite", "bytes_recv", "bytes_sent", None, bits=0),
    *_pair("graphite", "rx_bytes", "tx_bytes", None, bits=0),
    *_pair("graphite", "ifHCInOctets", "ifHCOutOctets", None),
    *_pair("graphite", "rx_byte", "tx_byte", None, bits=0),
    *_pair("beats", "system.network.in.bytes", "system.network.out.bytes"),
    *_packets("beats", "system.network.in.packets", "system.network.out.packets"),
    *_packets("beats", "system.network.in.errors", "system.network.out.errors", "errors"),
    *_packets("beats", "system.network.in.dropped", "system.network.out.dropped", "drops"),
    *_pair("vector", "network_receive_bytes_total", "network_transmit_bytes_total", None),
    *_pair("vector", "bytes_in", "bytes_out", None),
    *_pair("fluent_bit", "rx.bytes", "tx.bytes", "delta"),
    *_pair("nprobe", "IN_BYTES", "OUT_BYTES", "delta"),
    *_pair("librenms", "INOCTETS", "OUTOCTETS"),
    *_packets("librenms", "INUCASTPKTS", "OUTUCASTPKTS"),
    *_packets("librenms", "INERRORS", "OUTERRORS", "errors"),
    *_packets("librenms", "INDISCARDS", "OUTDISCARDS", "drops"),
    *_pair("zabbix", "Bits received", "Bits sent", "gauge", "b/s"),
)


class Row(NamedTuple):
    """A row as decoders use it."""

    field: str
    suffix: str  # of the flow's name
    kind: KindName | None
    unit: str
    factor: float  # to that unit
    bits: Literal[0, 32, 64]
    rank: int
    measurement: str


class Table:
    """The rows that apply, by format and field."""

    def __init__(self, fields: Iterable[Field], groups: frozenset[str]) -> None:
        self._rows: dict[str, dict[str, list[Row]]] = {}
        for each in fields:
            if each.group in groups:
                factor = FACTOR.get(each.unit, 1.0)
                unit = each.unit if factor == 1.0 else each.unit.replace("b", "B")
                row = Row(
                    each.field,
                    each.suffix,
                    each.kind,
                    unit,
                    factor,
                    each.bits,
                    each.rank,
                    each.measurement,
                )
                self._rows.setdefault(each.source, {}).setdefault(each.field, []).append(row)
        self._plain = {
            source: {
                name: found[0]
                for name, found in rows.items()
                if len(found) == 1 and found[0].measurement == "*"
            }
            for source, rows in self._rows.items()
        }

    def of(self, source: str) -> Mapping[str, list[Row]]:
        """The rows of one format, by field."""
        return self._rows.get(source, {})

    def plain(self, source: str) -> Mapping[str, Row]:
        """The rows of one format whose field has no other row, whatever the measurement."""
        return self._plain.get(source, {})

    def find(self, source: str, field: str, measurement: str = "") -> Row | None:
        """The row of a field; None if it is not wanted."""
        row = self.plain(source).get(field)
        if row is not None:
            return row
        for row in self._rows.get(source, {}).get(field, ()):
            if row.measurement == "*" or fnmatchcase(measurement, row.measurement):
                return row
        return None


@lru_cache(maxsize=16)
def table(fields: tuple[Field, ...], groups: frozenset[str]) -> Table:
    """The table of the settings: *fields* of the configuration come before the built-in ones."""
    return Table((*fields, *DEFAULTS), groups)


PLAIN = table((), frozenset({"bytes"}))
