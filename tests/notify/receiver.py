"""A receiver of HTTP requests that answers as a test wants: well, late, wrongly, or not at all."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Behaviour = Callable[[socket.socket], None]


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def content(self) -> Any:
        return json.loads(self.body)


def status(code: int, *headers: str, body: bytes = b"") -> Behaviour:
    """Answer properly with *code*."""
    lines = [f"HTTP/1.1 {code} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
    return lambda connection: connection.sendall("\r\n".join(lines).encode() + body)


def raw(text: bytes) -> Behaviour:
    """Answer with these bytes, and close."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_RDWR)

    return answer


def hang(connection: socket.socket) -> None:
    """Answer nothing, until the other side gives up."""
    with contextlib.suppress(OSError):
        connection.recv(1)


def drip(connection: socket.socket) -> None:
    """Answer a byte at a time: no single read takes long."""
    with contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)


class Receiver:
    """Listens on a port of this machine; the first of *behaviours* that is left answers."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.behaviours: list[Behaviour] = []
        self.default: Behaviour = status(200)
        self.connections = 0
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http{'s' * (self._tls is not None)}://localhost:{self.port}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def wait(self, number: int, limit_s: float = 10.0) -> list[Request]:
        """The requests, once there are *number*."""
        ends = time.monotonic() + limit_s
        while len(self.requests) < number:
            assert time.monotonic() < ends, f"{len(self.requests)} of {number} requests came"
            time.sleep(0.01)
        return self.requests

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._answer(connection)
        connection.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            while line := file.readline():
                headers = {}
                while (header := file.readline().strip()) != b"":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = file.read(int(headers.get("content-length", 0)))
                self.requests.append(Request(line.decode().strip(), headers, body))
                behaviour = self.behaviours.pop(0) if self.behaviours else self.default
                behaviour(connection)
