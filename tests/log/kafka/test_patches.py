"""Connections of the Kafka client, without a broker."""

from __future__ import annotations

import socket

from streamer.log.kafka import patches


def test_a_client_that_closes_while_a_request_waits_leaves_no_socket_open():
    """A full send buffer keeps the last request from being sent; no later event sends it."""
    near, far = socket.socketpair()
    near.setblocking(False)
    client = patches.client(bootstrap_servers="127.0.0.1:1")
    transport = patches.PlainTransport(client._net, near, host="broker")
    client._manager._transports.append(transport)
    transport.write(b"x" * 10_000_000)
    client.poll(timeout_ms=100)
    transport.close()
    assert transport.holds_socket
    client.close()
    assert near.fileno() == -1
    far.close()
