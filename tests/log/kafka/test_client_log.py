"""The client's own log, however much of it is wanted, holds no secret."""

from __future__ import annotations

import logging

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from streamer.log import LogError
from streamer.log.kafka.errors import quiet_client_logger, redacted
from streamer.log.kafka.settings import KafkaSettings, common, connect

PASSWORD = "pass'w\\ord, s3cret"


@pytest.mark.parametrize("kind", [KafkaConsumer, KafkaProducer, KafkaAdminClient])
def test_a_password_is_in_no_line(kind, caplog, tmp_path):
    """The client logs its complete configuration at this level."""
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    settings = KafkaSettings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password_file=str(file),
        client_log="debug",
    )
    config = common("127.0.0.1:1", settings, "test") | {"bootstrap_timeout_ms": 200}
    try:
        with caplog.at_level(logging.DEBUG), pytest.raises(LogError):
            connect(kind, config)
    finally:
        quiet_client_logger("critical")
    assert kind is not KafkaAdminClient or "'sasl_plain_password': '***'" in caplog.text
    assert "s3cret" not in caplog.text


def test_what_is_no_secret_stays():
    """Only the value goes."""
    assert redacted("{'sasl_plain_password': 'x', 'a': 1}") == (
        "{'sasl_plain_password': '***', 'a': 1}"
    )
    assert redacted("{'sasl_plain_password': None}") == "{'sasl_plain_password': '***'}"
    assert redacted("connected to a:9092") == "connected to a:9092"
