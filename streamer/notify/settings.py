"""The settings of the notifier: its receivers, and how often it sends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from streamer.config.types import Duration, Settings

LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")
RECEIVERS_MAX = 16  # of each kind: each has a thread and a connection
# A password in an address would be shown wherever the address is.
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#@\s]+([/?#]\S*)?\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:\[\]-]{1,100}\Z")]


class ReceiverConfig(Settings, frozen=True, kw_only=True):
    """The address that alerts are sent to, and the sender's credentials."""

    url: Url
    name: Name | None = None  # in log lines and metrics; null: the host and the port
    authorization_file: str | None = None  # the Authorization header, or a bearer token alone
    ca_file: str | None = None  # null: the authorities that the system trusts
    cert_file: str | None = None  # of the client
    key_file: str | None = None  # null: it is in cert_file

    def __post_init__(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file: needs cert_file")
        try:
            host, port = urlsplit(self.url).hostname, urlsplit(self.url).port
        except ValueError as error:
            raise ValueError(f"url: {error}") from None
        if not host or port == 0:
            raise ValueError("url: must name a host and a port above 0")

    @property
    def label(self) -> str:
        """The receiver's name in log lines and metrics."""
        return self.name or urlsplit(self.url).netloc


Receivers = Annotated[tuple[ReceiverConfig, ...], msgspec.Meta(max_length=RECEIVERS_MAX)]


class NotifyConfig(Settings, frozen=True, kw_only=True):
    """Where alerts are delivered."""

    alertmanagers: Receivers = ()  # all members of a cluster: none of them passes alerts on
    webhooks: Receivers = ()  # CloudEvents, one a request
    labels: dict[str, str] = {}  # noqa: RUF012 - msgspec copies an empty one
    resend: Duration = Duration(60)
    resolved_for: Duration = Duration(300)
    timeout: Duration = Duration(10)
    retry_max: Duration = Duration(60)
    queue_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    generator_url: Url | None = None

    @property
    def receivers(self) -> tuple[ReceiverConfig, ...]:
        """All of them."""
        return (*self.alertmanagers, *self.webhooks)


def contradictions(config: NotifyConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the settings: the key, and the fault."""
    taken: set[str] = set()
    for kind in ("alertmanagers", "webhooks"):
        for place, receiver in enumerate(getattr(config, kind)):
            if receiver.label in taken:
                fields = f"must be unique, {receiver.label} is used before"
                yield (kind, str(place), "name"), fields
            taken.add(receiver.label)
    for key in ("resend", "timeout", "retry_max"):
        if getattr(config, key) < 1:
            yield (key,), f"must be at least 1s, is {getattr(config, key)}"
    for name in config.labels:
        if not LABEL.fullmatch(name):
            yield ("labels",), "names must be letters, digits and _, 64 at most"
