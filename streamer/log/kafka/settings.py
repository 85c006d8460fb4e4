"""
How to connect to Kafka, with which limits: the `kafka` section of the configuration.

The names are Kafka's own. The section holds no secrets: they are read from files, or from
STREAMER_KAFKA_PASSWORD, STREAMER_KAFKA_KEY_PASSWORD and STREAMER_KAFKA_TOKEN.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
import structlog
from kafka.net.sasl.oauth import AbstractTokenProvider

from streamer.config.types import Duration, Settings
from streamer.log import Misconfigured
from streamer.log.kafka import patches
from streamer.log.kafka.errors import quiet_client_logger, translated
from streamer.log.kafka.untyped import Untyped
from streamer.ops.secrets import secret

log = structlog.get_logger()
Config = dict[str, Any]
_warned: set[str] = set()

POLL_INTERVAL_MAX_MS = 30 * 60 * 1000  # restoring many flows may delay a poll
# new partitions, and new topics that match a pattern, are detected within it
METADATA_AGE_MAX_MS = 60_000
CONNECT_MIN_S = 0.1
RETRY_BACKOFF_MS = 20  # how soon a request is repeated while a transaction is still closing

Bytes = Annotated[int, msgspec.Meta(ge=1024, le=2**31 - 1)]
MESSAGE_BYTES = 1_000_000  # of the largest message of streamer: a page, a batch of forecasts
TIMEOUT_MAX_S = 7 * 86400.0  # in milliseconds it must fit 32 bits


class KafkaSettings(Settings, frozen=True):
    """Security, timeouts and sizes; the defaults fit a broker without authentication."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: (
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"] | None
    ) = None
    sasl_username: str | None = None
    sasl_password_file: str | None = None  # None: STREAMER_KAFKA_PASSWORD
    sasl_token_file: str | None = None  # token for OAUTHBEARER; read again for each connection
    sasl_kerberos_service_name: str = "kafka"
    sasl_kerberos_domain_name: str | None = None
    ssl_cafile: str | None = None  # None: the system's CA certificates
    ssl_certfile: str | None = None  # our client certificate, if the broker requires one
    ssl_keyfile: str | None = None
    ssl_keyfile_password_file: str | None = None  # None: STREAMER_KAFKA_KEY_PASSWORD
    ssl_crlfile: str | None = None
    ssl_ciphers: str | None = None  # in OpenSSL's format
    ssl_check_hostname: bool = True

    static_membership: bool = True  # a restart within session_timeout moves no partition
    session_timeout: Duration = Duration(45)
    transaction_timeout: Duration = Duration(30)  # a turn is published within it, or aborted
    request_timeout: Duration = Duration(15)
    connect_timeout: Duration = Duration(5)

    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    linger: Duration = Duration(0.005)
    batch_bytes: Bytes = 256 << 10
    # limit for our own messages; the broker has its own limit
    message_bytes_max: Annotated[int, msgspec.Meta(ge=MESSAGE_BYTES, le=2**31 - 1)] = 1 << 20
    # limit per partition and response; a single larger record is still delivered
    fetch_bytes: Bytes = 4 << 20
    fetch_bytes_max: Bytes = 50 << 20
    # replication factor of new topics; -1: the broker's default
    replication: Annotated[int, msgspec.Meta(ge=-1, le=99)] = -1
    client_log: Literal["critical", "warning", "info", "debug"] = "critical"

    def __post_init__(self) -> None:
        """Raise ValueError if the keys contradict each other."""
        sasl = self.security_protocol.startswith("SASL_")
        if sasl and self.sasl_mechanism is None:
            raise ValueError(f"sasl_mechanism: is needed with {self.security_protocol}")
        if not sasl and self.sasl_mechanism is not None:
            raise ValueError(f"sasl_mechanism: is of no use with {self.security_protocol}")
        if self.needs_password and self.sasl_username is None:
            raise ValueError(f"sasl_username: is needed with {self.sasl_mechanism}")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("ssl_certfile: is needed with ssl_keyfile")
        for name in ("session_timeout", "transaction_timeout", "request_timeout"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1s, is {getattr(self, name)}")
            if getattr(self, name) > TIMEOUT_MAX_S:
                raise ValueError(f"{name}: must be at most 1w, is {getattr(self, name)}")
        if not CONNECT_MIN_S <= self.connect_timeout <= TIMEOUT_MAX_S:
            raise ValueError(f"connect_timeout: must be 100ms to 1w, is {self.connect_timeout}")
        if self.linger > self.transaction_timeout / 2:
            raise ValueError(f"linger: must be well below transaction_timeout, is {self.linger}")

    @property
    def needs_password(self) -> bool:
        """Return whether the mechanism uses a user and a password."""
        return self.sasl_mechanism in {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # the client ships no types
    """The token for OAUTHBEARER, in a file that another program refreshes."""

    def __init__(self, file: str | None) -> None:
        super().__init__()
        self._file = file

    def token(self) -> str:
        """Return the token; raise Misconfigured if there is none."""
        found = secret("kafka.sasl_token_file", self._file, "STREAMER_KAFKA_TOKEN")
        if found is None:
            raise Misconfigured("kafka.sasl_token_file: is needed with OAUTHBEARER")
        return found


def common(bootstrap: str, settings: KafkaSettings, client_id: str) -> Config:
    """Return the settings of all clients; raises Misconfigured if a secret is missing."""
    quiet_client_logger(settings.client_log)
    return {
        "bootstrap_servers": [server.strip() for server in bootstrap.split(",")],
        "client_id": client_id,
        "request_timeout_ms": ms(settings.request_timeout),
        "bootstrap_timeout_ms": ms(settings.connect_timeout),
        "reconnect_backoff_max_ms": 2000,
        "metadata_max_age_ms": METADATA_AGE_MAX_MS,
        **security(settings),
    }


def security(settings: KafkaSettings) -> Config:
    """Return the settings for authentication and encryption."""
    config: Config = {"security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        config["ssl_context"] = encryption(settings)
    if settings.sasl_mechanism is None:
        return config
    config["sasl_mechanism"] = settings.sasl_mechanism
    if settings.security_protocol == "SASL_PLAINTEXT":
        warn_once("kafka.sasl_without_tls")
    if settings.sasl_mechanism == "OAUTHBEARER":
        config["sasl_oauth_token_provider"] = TokenFile(settings.sasl_token_file)
    elif settings.sasl_mechanism == "GSSAPI":
        config["sasl_kerberos_service_name"] = settings.sasl_kerberos_service_name
        config["sasl_kerberos_domain_name"] = settings.sasl_kerberos_domain_name
    elif settings.needs_password:
        key, variable = "kafka.sasl_password_file", "STREAMER_KAFKA_PASSWORD"
        password = secret(key, settings.sasl_password_file, variable)
        if password is None:
            raise Misconfigured(f"{key}: is needed with {settings.sasl_mechanism}, or {variable}")
        config["sasl_plain_username"] = settings.sasl_username
        config["sasl_plain_password"] = password
    return config


def encryption(settings: KafkaSettings) -> ssl.SSLContext:
    """Return the TLS context with its certificates; raises Misconfigured if a file is invalid."""
    key = "kafka.ssl_keyfile_password_file"
    password = secret(key, settings.ssl_keyfile_password_file, "STREAMER_KAFKA_KEY_PASSWORD")
    if not settings.ssl_check_hostname:
        warn_once("kafka.hostname_unchecked")
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        context.check_hostname = settings.ssl_check_hostname
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password or "")
        if settings.ssl_crlfile is not None:
            context.load_verify_locations(settings.ssl_crlfile)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if settings.ssl_ciphers is not None:
            context.set_ciphers(settings.ssl_ciphers)
    except OSError as error:  # ssl.SSLError is one
        raise Misconfigured(f"kafka.ssl_*: {error}") from error
    return context


def warn_once(event: str) -> None:
    """Log a warning once, for a setting that may be intended but is risky."""
    if event not in _warned:
        _warned.add(event)
        log.warning(event)


def reading(settings: KafkaSettings) -> Config:
    """Return consumer settings: committed records only, and no automatic offset reset."""
    return {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",  # a reset would skip records silently
        "allow_auto_create_topics": False,
        "max_partition_fetch_bytes": settings.fetch_bytes,
        "fetch_max_bytes": settings.fetch_bytes_max,
        "metrics_enabled": False,
    }


def joining(settings: KafkaSettings, group: str, instance: str, assignor: Untyped) -> Config:
    """Return the settings of a group member, with a static instance id if membership is static."""
    session_ms = ms(settings.session_timeout)
    return {
        "group_id": group,
        "group_instance_id": instance if settings.static_membership else None,
        "partition_assignment_strategy": [assignor],
        "session_timeout_ms": session_ms,
        "heartbeat_interval_ms": min(3000, session_ms // 10),
        "max_poll_interval_ms": POLL_INTERVAL_MAX_MS,
    }


def writing(settings: KafkaSettings) -> Config:
    """Return producer settings: ordered, acknowledged by all replicas, idempotent."""
    linger_ms, delivery_ms = ms(settings.linger), ms(settings.transaction_timeout)
    return {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": None if settings.compression == "none" else settings.compression,
        "linger_ms": linger_ms,
        "batch_size": settings.batch_bytes,
        "max_request_size": max(settings.message_bytes_max, settings.batch_bytes),
        "max_block_ms": ms(settings.request_timeout),
        "delivery_timeout_ms": delivery_ms,
        "request_timeout_ms": min(ms(settings.request_timeout), delivery_ms - linger_ms - 1),
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def connect(kind: Callable[..., Untyped], config: Mapping[str, Any]) -> Untyped:
    """
    Create a client of *kind*, connected; raises a LogError after `connect_timeout`.

    A client whose constructor fails would leave its thread behind: this function ends the thread.
    """
    made: list[Untyped] = []

    def net(**options: object) -> Untyped:
        made.append(patches.client(**options))
        return made[-1]

    servers = ",".join(config["bootstrap_servers"])
    try:
        with translated(f"kafka at {servers}"):
            return kind(**config, kafka_client=net)
    except BaseException:
        for client in made:
            client.close()
        raise


def ms(duration: float) -> int:
    """Convert *duration*, in seconds, to milliseconds, rounded."""
    return round(duration * 1000)
