"""A receiver, and records of alerts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from streamer.core.types import Partition, Record
from streamer.core.wire.alerts import encoded, key_of
from tests.cli.test_alerts import ALERT
from tests.notify.receiver import Receiver

P = Partition("traffic.alerts", 0)


def record(offset: int = 0, partition: Partition = P, time_ms: int = -1, **fields) -> Record:
    """A record of the alerts topic, as a forecaster writes it."""
    alert = dataclasses.replace(ALERT, **fields)
    key = key_of(alert.flow, alert.rule)
    return Record(partition, offset, key, encoded(alert), time_ms)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()
