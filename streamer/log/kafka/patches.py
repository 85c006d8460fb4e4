"""
Connections that say why they failed.

A broker that refuses credentials says so and hangs up. The client (3.0.12) drops
what it read together with the end of a connection, and forgets a refusal that it
did read, so that a wrong password would look like a broker that is away: it would
be waited for, and tried again and again until the account is locked. It also leaves
the sockets of failed connections to the garbage collector, one for each attempt;
and with each wait that is over all that its callers had in hand.
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
    """One that is closed where it can't be connected; asked for as a proxy that is none."""

    SCHEMES = ("direct",)

    async def sock_connect(
        self, net: Untyped, sock: Untyped, *to: object, **options: object
    ) -> Untyped:
        """A connected socket; raises the client's errors."""
        try:
            return await super().sock_connect(net, sock, *to, **options)
        except BaseException:
            sock.close()
            raise


class DrainBeforeClose:
    """Mixed into a transport: what came before the end is heard before the end."""

    _sock: socket.socket | None

    @property
    def holds_socket(self) -> bool:
        """Also while it is closing and its last requests wait to be sent."""
        return self._sock is not None

    def discard(self) -> None:
        """Close the socket, after its client was closed; what waits to be sent is lost."""
        if self._sock is not None:
            self._sock.close()
        self._sock = None

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()  # type: ignore[misc]  # the transport's
        return data, None if data else error


class PlainTransport(DrainBeforeClose, KafkaTCPTransport):  # type: ignore[misc]  # the client ships no types
    """Over TCP."""


class EncryptedTransport(DrainBeforeClose, KafkaSSLTransport):  # type: ignore[misc]  # likewise
    """Over TLS."""


class Connections(KafkaConnectionManager):  # type: ignore[misc]  # the client ships no types
    """The client's own, on our transports, that remember who refused them."""

    def __init__(self, net: Untyped, **options: object) -> None:
        super().__init__(net, **options)
        self._transports: list[Untyped] = []

    def discard(self) -> None:
        """Close the sockets that were to be closed after a last request, which nobody sends."""
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
    """The client's own, whose time-outs go when they are caught."""

    def run(self, coro: Untyped, *args: object) -> Untyped:
        """
        What *coro* comes to; raises what it raises.

        A time-out is kept by what was waited for, which lives in the frames of its traceback:
        a cycle, and on it hang the frames of all callers up to the turn, with a turn's arrays.
        So this one loses its traceback, and another is raised that nobody keeps.
        """
        try:
            return super().run(coro, *args)
        except errors.KafkaTimeoutError as error:
            error.__traceback__ = None
            raise errors.KafkaTimeoutError(*error.args) from None


class Client(KafkaNetClient):  # type: ignore[misc]  # likewise
    """The client's own, that leaves no socket open."""

    def close(self, node_id: Untyped = None) -> None:
        """Close the connection to one node, or all of them and the client."""
        super().close(node_id)
        if node_id is None:
            self._manager.discard()


def client(**options: object) -> Client:
    """For the `kafka_client` setting of the client's classes."""
    net = NoTracebackSelector(**options)
    return Client(net=net, manager=Connections(net, **options))
