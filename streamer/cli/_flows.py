"""The flows of a group: those of the pages in its state topic."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from streamer.log import TopicMissing, Unavailable

if TYPE_CHECKING:
    from streamer.config.schema import Config

REACH_S = 2.0  # for each server, before it counts as away
PORT = 9092


def known_flows(config: Config) -> frozenset[str]:
    """Names of flows; raises a LogError at once if the log cannot be reached."""
    from streamer.config.schema import open_client
    from streamer.core.state.page_format import Unreadable, names_of

    require_reachable(config.log)
    client = open_client(config, existing=True)
    try:
        shape = client.topics().get(config.state_topic)
        if shape is None:
            raise TopicMissing([config.state_topic])
        found: set[str] = set()
        for number in range(shape.partitions):
            for key, value in client.read_table(config.state_topic, number).items():
                if key.decode(errors="replace").rsplit("/", 2)[-2:-1] == ["page"]:
                    with contextlib.suppress(Unreadable):
                        found.update(names_of(value))
        return frozenset(found)
    finally:
        client.close()


def require_reachable(url: str) -> None:
    """Raise Unavailable unless a server of a Kafka *url* accepts connections; a file may pass."""
    scheme, _, where = url.partition("://")
    if scheme != "kafka":
        return
    for server in where.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not colon or "]" in port:
            host, port = server.strip(), str(PORT)
        with contextlib.suppress(OSError):
            socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
            return
    raise Unavailable(f"no broker accepts connections: {where}")
