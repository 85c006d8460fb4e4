"""The members on the log: the daemon itself, and a loop that only reads and publishes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import structlog
import torch
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata
from structlog.stdlib import BoundLogger

from streamer.cli._forecasting import Watch, forecast
from streamer.cli._service import ForecasterMetrics, Service
from streamer.config.schema import Config, load
from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Network
from streamer.daemon import pacing
from streamer.daemon.events import Turn
from streamer.log import LogError
from streamer.log.kafka.settings import POLL_INTERVAL_MAX_MS, common, ms, reading, writing
from streamer.ops import logs
from streamer.ops.coverage_slo import CoverageSLO
from streamer.ops.systemd import Systemd
from streamer.ops.telemetry import Telemetry
from streamer.training.pretrain import Plan, pretrain
from streamer.training.settings import TrainerConfig
from tests.bench.apart import Gate
from tests.bench.core import Core
from tests.bench.traffic import PARTITIONS


class Watched(Watch):
    """The daemon's own observer, which holds the daemon at its gate after each turn."""

    def __init__(self, gate: Gate, config: Config) -> None:
        lines: BoundLogger = structlog.get_logger()
        objective = CoverageSLO(config.objective, lines)
        super().__init__(
            lines, Telemetry(config.telemetry, lines), objective, Systemd({}), None, {}
        )
        self.gate = gate
        self.restoring_s = 0.0

    def turned(self, turn: Turn) -> None:
        """Count what was taken; the first turn that holds all partitions stands ready."""
        super().turned(turn)
        if self.gate.started:
            self.gate.passed(turn.epoch.counts["records"], turn.took_s)
            return
        self.restoring_s += turn.took_s
        if len(turn.lag) == PARTITIONS:
            self.gate.ready(self.restoring_s)

    def refused(self, error: LogError, _pause_s: float) -> None:
        """Then there is nothing to measure."""
        raise error


def daemon(pipe: Connection, overrides: Sequence[str]) -> None:
    """`streamer run` with these settings, without its log lines."""
    logs.begin("logfmt", "error")
    stop, config = threading.Event(), load(None, overrides, {})
    forecast(config, Watched(Gate(pipe, stop), config), stop)


def watched(pipe: Connection, overrides: Sequence[str]) -> None:
    """The daemon, with all that serves its metrics."""
    logs.begin("logfmt", "error")
    stop, config = threading.Event(), load(None, overrides, {})
    watch = Watched(Gate(pipe, stop), config)
    telemetry = watch.telemetry
    service = Service(config, "forecaster", telemetry.totals, telemetry.levels, watch.lines)
    watch.serve(service, ForecasterMetrics(service.metrics, watch.objective))
    try:
        forecast(config, watch, stop)
    finally:
        service.close()


def training(pipe: Connection) -> None:
    """Train as the trainer does, on one thread and as nice, until the pipe has a message."""
    settings = TrainerConfig()
    os.nice(settings.nice)
    torch.set_num_threads(settings.threads)
    endless = pretrain(Plan(passes=10**6, age_max=1), Network(ModelConfig()))
    next(endless)
    pipe.send(0.0)
    while not pipe.poll():
        next(endless)


def forgetful(pipe: Connection, overrides: Sequence[str]) -> None:
    """The daemon, but that it saves nothing however many readings come."""
    pacing.READINGS_A_ROUND = 10**12
    daemon(pipe, overrides)


def loop(pipe: Connection, overrides: Sequence[str], source: str, flows: int) -> None:
    """
    A record in, a record out, with Kafka's client alone and the daemon's settings for it.

    It publishes the same bytes that the daemon publishes for so many *flows*.
    """
    config = load(None, overrides, {})
    core = Core(flows, 1)
    lines = [(m.key, m.value) for m in core.turn(next(core.input))]
    shared = common(config.log.partition("://")[2], config.kafka, config.group)
    reads = shared | reading(config.kafka) | {"auto_offset_reset": "earliest"}
    consumer = KafkaConsumer(
        **reads, group_id=config.group, max_poll_interval_ms=POLL_INTERVAL_MAX_MS
    )
    writes = shared | writing(config.kafka) | {"transactional_id": config.group}
    producer = KafkaProducer(**writes)
    producer.init_transactions()
    topic = config.forecasts.topic
    consumer.subscribe(topics=[source])
    while not consumer.assignment():  # it takes several answers, and short polls never get there
        consumer.poll(timeout_ms=5000)
    stop = threading.Event()
    gate = Gate(pipe, stop)
    gate.ready(0.0)
    sent, wait_ms = 0, ms(config.turn.poll_timeout)
    while not stop.is_set():
        found = consumer.poll(timeout_ms=wait_ms, max_records=config.turn.records_max)
        began = time.monotonic()
        number = sum(map(len, found.values()))
        if found:
            producer.begin_transaction()
            for place, records in found.items():
                for _ in records:
                    key, value = lines[sent % len(lines)]
                    producer.send(topic, value, key, partition=place.partition)
                    sent += 1
            offsets = {
                place: OffsetAndMetadata(records[-1].offset + 1, "", -1)
                for place, records in found.items()
            }
            producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
            producer.commit_transaction()
        gate.passed(number, time.monotonic() - began)
    producer.close()
    consumer.close(autocommit=False)
