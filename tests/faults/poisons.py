"""
Records that have stopped a forecaster, hung it, or made it wrong, and some sound flows beside them.

Each poison is a small maker of records, at the times of the sound flows' readings. What becomes of
the poison itself is tested where it is decided; here it only stands in the same partition.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from math import sin
from random import Random
from typing import NamedTuple

STEP_S = 60
STEPS = 60  # of the sound flows
YEAR_S = 365 * 86_400
SOUND = ("sound/counter", "sound/gauge", "sound/delta")


class Sent(NamedTuple):
    """A record to send."""

    value: bytes | None
    time_s: float
    key: bytes | None = None


Poison = Callable[[int, float], Iterator[Sent]]  # the step's number, and its time


def reading(flow: str, time: object, value: object, **more: object) -> bytes:
    """One reading, of whatever is given."""
    return json.dumps({"flow": flow, "time": time, "value": value, **more}).encode()


def sound(at: int, now_s: float) -> Iterator[Sent]:
    """The flows whose forecasts must not change."""
    rate = 1e6 * (2 + sin(at / 7) + 0.1 * sin(at * 1.7))
    for flow, more, value in (
        (SOUND[0], {}, 10**12 + round(1.2e8 * at + 2e7 * sin(at / 5))),
        (SOUND[1], {"kind": "gauge"}, rate),
        (SOUND[2], {"kind": "delta"}, round(60 * rate)),
    ):
        yield Sent(reading(flow, now_s + 5.0, value, **more), now_s + 5, flow.encode())


def plain(flow: str, number: int, **more: object) -> Callable[[int, float], bytes]:
    """A reading of a counter that grows, with odd fields."""
    return lambda at, now_s: reading(flow, now_s + number % 50, 10**9 + 6 * 10**7 * at, **more)


ODD_UNITS = (
    *(
        "aéééééé",
        "é" * 5,
        "é" * 200,
        "😀" * 4,
        "a" * 7 + "é",
        "\ud800",
        "\u202eB/s",
        "B\0",
        "\x1b[2J",
    ),
    *("", " ", "B", "bit", "bits/s", "%", "B" * 10_000, 5, None, True, [], {"a": 1}, 1e300),
)
ODD_NUMBERS = (
    *(1, -1, 0, 0.0, -0.0, 1e39, -1e39, 1e300, 5e-324, 10**400, 2**63, 2**64 - 1, 2**64, -(2**63)),
    *(1.5, 1e15, "1_000", " 5 ", "١٢٣", "5", "1e5", "nan", "inf", "", None, True, [], {}, [1], "é"),
    *(float("nan"), float("inf"), float("-inf")),
)
ODD_NAMES = (
    *(
        "",
        " ",
        "\n",
        "a\nb",
        "\0",
        "\x1b]0;x\x07",
        "\u202eabc",
        "[/x]",
        "edge[/x]",
        "\ud800",
        "💥" * 50,
    ),
    *(
        "é" * 300,
        "n" * 1000,
        "n" * 100_000,
        "..",
        "../../etc",
        "a\tb",
        "'; --",
        "sound/counter ",
        "SOUND",
    ),
    *(5, None, True, [], {}, ["a"]),
)
ODD_FIELDS = ("value", "time", "capacity", "bits", "period", "kind", "direction", "start")


def odd_units(at: int, now_s: float) -> Iterator[Sent]:
    """A reading's own unit, of any text, that stays or changes each time."""
    for number, unit in enumerate(ODD_UNITS):
        yield Sent(plain(f"unit{number}", number, unit=unit)(at, now_s), now_s)
    yield Sent(plain("units", 3, unit=ODD_UNITS[at % len(ODD_UNITS)])(at, now_s), now_s)
    scale, unit = ((1, "B"), (8, "bit"), (1, "packets"))[at % 3]
    yield Sent(reading("scaled", now_s, 10**9 + scale * 10**6 * at, unit=unit), now_s)


def odd_numbers(at: int, now_s: float) -> Iterator[Sent]:
    """Any field of a reading, of any value that JSON can write, and some that it cannot."""
    for field in ODD_FIELDS:
        for number, value in enumerate(ODD_NUMBERS):
            if (at + number) % 6 == 0:
                body = plain(f"{field}{number}", number)(at, now_s)
                yield Sent(json.dumps(json.loads(body) | {field: value}).encode(), now_s)


def odd_names(at: int, now_s: float) -> Iterator[Sent]:
    """Flows of any name, each in a record whose key is as odd."""
    for number, name in enumerate(ODD_NAMES):
        if (at + number) % 2:
            value = reading(name, now_s + 1, 10**9 + 10**7 * at)  # type: ignore[arg-type]
            yield Sent(value, now_s, repr(name)[:200].encode(errors="replace"))


def no_readings(at: int, now_s: float) -> Iterator[Sent]:
    """Bytes that are no JSON, JSON that is no reading, and no bytes at all."""
    deep, digits = 3000, b"9" * 6000
    whole = (
        *(None, b"", b"{", b"[", b"null", b"[]", b"{}", b'"', b"\xff\xfe\0", b"\0" * 1000, b"nan"),
        *(b"[" * deep, b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, digits),
        *(b'{"flow":"h","time":%d,"value":%s}' % (now_s, digits), b"[1,2,3]", b"\xef\xbb\xbf{}"),
        *(b'{"flow":"h","time":1e999,"value":1}', b'{"flow":"\\ud800","time":1,"value":2}'),
        *(b'{"flow":"h","flow":"i","time":1,"value":1,"value":[]}', b"time,flow,value\n1,a,2\n"),
        *(b'{"metrics":' + b"[" * deep, b'{"metrics":[null,1,{},[]]}', b'{"fields":{},"tags":{}}'),
    )
    yield Sent(whole[at % len(whole)], now_s, b"\xff\xfe")
    yield Sent(whole[(7 * at + 3) % len(whole)], now_s)


def telegraf(at: int, now_s: float) -> Iterator[Sent]:
    """Collectors' metrics: two tables of one name, subinterfaces, odd time units and odd fields."""
    tags: dict[str, object] = {"agent_host": "t2", "ifDescr": "Gi0/1"}
    for fields, more, stamp in (
        ({"ifInOctets": 6 * 10**7 * at % 2**32, "ifSpeed": 10**9}, {}, now_s),
        ({"ifHCInOctets": 10**13 + 6 * 10**7 * at, "ifHighSpeed": 1000}, {}, now_s + 2),
        ({"in_octets": 10**12 // (1 + at % 2)}, {"index": str(at % 2)}, now_s * 1000),
        ({"ifInOctets": 10**6 * at}, {"ifDescr": "cs"}, round(now_s * 100)),
        ({"ifInOctets": 2**64 - 1 if at % 2 else 10**6 * at}, {"ifDescr": "\x1b"}, now_s * 10**9),
        ({"ifInOctets": {"a": []}, "ifHCInOctets": None}, {"ifDescr": ["x"]}, "now"),
    ):
        metric = {"name": "interface", "tags": tags | more, "fields": fields, "timestamp": stamp}
        yield Sent(json.dumps(metric).encode(), now_s, b"t2")


def stray_times(at: int, now_s: float) -> Iterator[Sent]:
    """Clocks that jump once, that are wrong for good, and units of time that are not seconds."""
    strays = (
        *(
            now_s + YEAR_S,
            now_s - YEAR_S,
            now_s * 1e3,
            now_s * 1e6,
            now_s * 1e9,
            0,
            -1,
            1e18,
            1e300,
        ),
        *(-1e300, 2**31, 2**63, 2**64, now_s + 1800, now_s - 86_400, 1e-9, now_s + 1e-6),
    )
    for number, stray in enumerate(strays):
        odd_s = stray if at == 10 + number else now_s + 3
        stamp_s = stray if 0 < stray < 2**40 and at % 2 else now_s  # its record may agree
        yield Sent(reading(f"stray{number}", odd_s, 10**9 + 10**7 * at), stamp_s)
        yield Sent(reading(f"wrong{number}", stray + 60 * at, 10**9 + 10**7 * at), now_s)


def counters(at: int, now_s: float) -> Iterator[Sent]:
    """Counters, deltas and gauges as devices and collectors really send them."""
    count, slow, odd = 10**12 + 6 * 10**7 * at, 10**9 + 3 * 10**5 * at, at == 30
    jump = 1800 if odd else 0
    for flow, value, more in (
        ("dip", slow - (5000 + 3 * 10**5 if odd else 0), {}),
        ("dip32", (slow - (305_000 if odd else 0)) % 2**32, {"bits": 32}),
        ("reboot", slow if at < 30 else 3 * 10**5 * (at - 30), {"bits": 32, "capacity": 1.25e8}),
        ("glitch0", 0 if odd else count, {}),
        ("glitch5", 5 * count if odd else count, {}),
        ("max", 2**64 - 1 if odd else count, {}),
        ("wrap32", 18 * 10**8 * at % 2**32, {}),
        ("capacity", count, {"capacity": 1} if odd else {}),
        ("absurd", 9e11 if odd else 1e6, {"kind": "gauge"}),
        ("negative", -count if odd else count, {}),
        ("kinds", count, {"kind": ("gauge", "counter", "delta", "Gauge", " kind", None)[at % 6]}),
    ):
        yield Sent(reading(flow, now_s + 7, value, **more), now_s + 7)
    yield Sent(reading("clock", now_s + 7 + jump, count), now_s + 7)
    jitter_s = Random(at).uniform(-8, 8)
    yield Sent(reading("jitter", now_s + 20 + jitter_s, 6 * 10**7, kind="delta"), now_s)
    for _ in range(2):
        yield Sent(reading("twice", now_s + 7, 6 * 10**7, kind="delta"), now_s)
    if at % 5 == 0:
        yield Sent(reading("delta300", now_s, 3 * 10**8, kind="delta"), now_s)
        yield Sent(reading("gauge300", now_s, 1e6, kind="gauge"), now_s)


def dense(at: int, now_s: float) -> Iterator[Sent]:
    """One record with very many readings of a flow: an hour apart, a second apart, backwards."""
    spacings = {12: 3600, 22: 1, 32: -3600, 42: 0}
    if at in spacings:
        many, apart_s = 4000, spacings[at]  # seconds of work: longer than the group's session
        first_s = now_s - many * max(apart_s, 0)
        lines = [
            {"flow": f"dense{apart_s}", "time": first_s + n * apart_s, "value": 10**9 + 1000 * n}
            for n in range(many)
        ]
        yield Sent(json.dumps(lines).encode(), now_s)


def many_flows(at: int, now_s: float) -> Iterator[Sent]:
    """More new flows than there is room for, with names that fill a message when they go."""
    if at in {15, 16, 35}:
        pad = "x" * 200
        lines = [
            {"flow": f"{at}/{n}/{pad}", "time": now_s, "value": 10**9 + n} for n in range(15_000)
        ]
        yield Sent(json.dumps(lines).encode(), now_s)
    if at in {36, 37}:
        for n in range(30):
            yield Sent(reading(f"{at}/{n}/" + "y" * 350, now_s, 5), now_s)


POISONS: Sequence[Poison] = (
    *(odd_units, odd_numbers, odd_names, no_readings, telegraf, stray_times, counters),
    *(dense, many_flows),
)


def script(first_s: float, poisons: Sequence[Poison], steps: range) -> Iterator[Sent]:
    """The sound flows' readings, in order of time, with poison before and after each."""
    for at in steps:
        now_s = first_s + STEP_S * at
        bad = [each for poison in poisons for each in poison(at, now_s)]
        Random(at).shuffle(bad)
        half = len(bad) // 2
        yield from bad[:half]
        yield from sound(at, now_s)
        yield from bad[half:]
