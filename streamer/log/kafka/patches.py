"""
Connections that report why they failed.

A broker that rejects credentials sends an error and closes the connection. The client (3.0.12)
drops data that it reads together with the end of a connection, and forgets a rejection that it
did read. A wrong password would therefore look like a broker that is down: the client would
retry until the account is locked. The client also leaves the sockets of failed connections to
the garbage collector, one for each attempt. And each wait that times out keeps the local
variables of all callers alive.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket, create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from streamer.log.kafka.untyped import Untyped


class ClosingSocket(KafkaNetSocket):  # type: ignore[misc]  # the client ships no types
    """Closes its socket if the connection fails; selected by the pseudo proxy scheme `direct`."""

    SCHEMES = ("direct",)

    async def sock_connect(
        self, net: Untyped, sock: Untyped, *to: object, **options: object
    ) -> Untyped:
        """Return a connected socket; raises the client's errors."""
        try:
            return await super().sock_connect(net, sock, *to, **options)
        except BaseException:
            sock.close()
            raise


class DrainBeforeClose:
    """A mixin for transports: data that arrived before the end is delivered before the end."""

    _sock: socket.socket | None

    @property
    def holds_socket(self) -> bool:
        """True also while the transport is closing and its last requests are unsent."""
        return self._sock is not None

    def discard(self) -> None:
        """Close the socket after its client was closed; unsent requests are lost."""
        if self._sock is not None:
            self._sock.close()
        self._sock = None

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()  # type: ignore[misc]  # the transport's method
        return data, None if data else error


class PlainTransport(DrainBeforeClose, KafkaTCPTransport):  # type: ignore[misc]  # the client ships no types
    """A TCP transport."""


class EncryptedTransport(DrainBeforeClose, KafkaSSLTransport):  # type: ignore[misc]  # the client ships no types
    """A TLS transport."""


class Connections(KafkaConnectionManager):  # type: ignore[misc]  # the client ships no types
    """The client's connection manager, with our transports; it remembers rejected credentials."""

    def __init__(self, net: Untyped, **options: object) -> None:
        super().__init__(net, **options)
        self._transports: list[Untyped] = []

    def discard(self) -> None:
        """Close the sockets that are still open for a last request, which is never sent."""
        for transport in self._transports:
            transport.discard()
        self._transports.clear()

    async def _build_transport(self, node: Untyped, timeout_at: float | None = None) -> Untyped:
        sock = await create_connection(
            self._net,
            node.host,
            node.port,
            self.config["socket_options"],
            proxy_url="direct://",
            timeout_at=timeout_at,
        )
        closing: Callable[[], None] = sock.close
        try:
            if self.ssl_enabled:
                context = self.config["ssl_context"]
                transport = EncryptedTransport(self._net, sock, host=node.host, ssl_context=context)
            else:
                transport = PlainTransport(self._net, sock, host=node.host)
            closing = transport.abort
            await transport.handshake()
        except OSError as error:  # ssl.SSLError is one
            closing()
            raise errors.KafkaConnectionError(f"Handshake failed: {error}") from error
        except BaseException:
            closing()
            raise
        self._transports = [each for each in self._transports if each.holds_socket]
        self._transports.append(transport)
        return transport

    async def _connect(self, node: Untyped, conn: Untyped, **options: object) -> None:
        await super()._connect(node, conn, **options)
        error = conn.init_future.exception
        if isinstance(error, errors.SaslAuthenticationFailedError | errors.AuthorizationError):
            self._auth_failures[node.node_id] = error


class NoTracebackSelector(NetworkSelector):  # type: ignore[misc]  # the client ships no types
    """The client's selector, whose timeout errors release their tracebacks."""

    def run(self, coro: Untyped, *args: object) -> Untyped:
        """
        Return the result of *coro*; raises what it raises.

        The awaited object keeps a timeout error, and lives in a frame of that error's traceback.
        This is a reference cycle that holds the frames of all callers, including a turn's arrays.
        So the original error loses its traceback, and a new one that nothing keeps is raised.
        """
        try:
            return super().run(coro, *args)
        except errors.KafkaTimeoutError as error:
            error.__traceback__ = None
            raise errors.KafkaTimeoutError(*error.args) from None


class Client(KafkaNetClient):  # type: ignore[misc]  # the client ships no types
    """The client's network client, which leaves no socket open."""

    def close(self, node_id: Untyped = None) -> None:
        """Close the connection to one node, or all of them and the client."""
        super().close(node_id)
        if node_id is None:
            self._manager.discard()


def client(**options: object) -> Client:
    """Return a network client for the `kafka_client` setting of the client's classes."""
    net = NoTracebackSelector(**options)
    return Client(net=net, manager=Connections(net, **options))
