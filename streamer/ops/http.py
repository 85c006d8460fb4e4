"""
Metrics and probes over HTTP: `/metrics`, `/livez` and `/readyz`, on a small port.

A thread accepts connections and starts one for each, up to a limit; the loop that does the work
is never asked. A request is read up to a number of bytes and within a time, whatever a client
does, and every answer closes its connection. Nothing but GET and HEAD without a body is served.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple

import msgspec

from streamer.config.types import Duration, Settings
from streamer.log import LogError
from streamer.ops.coverage_slo import Lines

Bind = Annotated[str, msgspec.Meta(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):\d{1,5}\Z")]

HEAD_BYTES_MAX = 8192  # request line and headers
CONNECTIONS_MAX = 16  # at once; more are closed and counted
REQUEST_S = 5.0  # to read a request and write its answer, all in all
RETRY_S = 30.0  # between attempts to listen on a port that is taken
CACHED_S = 0.5  # many scrapers at once cost one rendering
TEXT = "text/plain; charset=utf-8"
REFUSED = "http_refused"  # the count of connections over the limit


class HttpConfig(Settings, frozen=True, kw_only=True):
    """Where metrics and probes are served."""

    bind: Bind | None = "127.0.0.1:9464"
    trainer_bind: Bind | None = None
    notifier_bind: Bind | None = None
    rekeyer_bind: Bind | None = None
    token_file: str | None = None
    stall_max: Duration = Duration(60)


class Answer(NamedTuple):
    """A response."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT
    headers: tuple[str, ...] = ()


class BadRequest(Exception):
    """The request is refused with this status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Pages:
    """What is served: the answer to a path. *token* is read for each request, so it may rotate."""

    def __init__(
        self,
        metrics: Callable[[], bytes],
        content_type: str,
        why_dead: Callable[[], str],
        why_not_ready: Callable[[], str],
        token: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._metrics, self._content_type = metrics, content_type
        self._probes = {"/livez": why_dead, "/readyz": why_not_ready}
        self._token = token
        self._rendering = threading.Lock()
        self._rendered, self._rendered_at = b"", float("-inf")

    def answer(self, path: str, headers: Mapping[str, str]) -> Answer:
        """The answer to a GET of *path*; names of *headers* are in lower case."""
        if path in self._probes:
            why = self._probes[path]()
            status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
            return Answer(status, f"{why or 'ok'}\n".encode())
        if path == "/metrics":
            if not self._admitted(headers.get("authorization", "")):
                body, wanted = b"a token is needed\n", ("WWW-Authenticate: Bearer",)
                return Answer(HTTPStatus.UNAUTHORIZED, body, TEXT, wanted)
            return Answer(HTTPStatus.OK, self._text(), self._content_type)
        if path == "/":
            return Answer(HTTPStatus.OK, b"/metrics\n/livez\n/readyz\n")
        return Answer(HTTPStatus.NOT_FOUND, b"not found\n")

    def _admitted(self, authorization: str) -> bool:
        try:
            token = self._token()
        except LogError:  # the file cannot be read now: no request is admitted
            return False
        if token is None:
            return True
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), token.encode()
        )

    def _text(self) -> bytes:
        with self._rendering:
            if time.monotonic() - self._rendered_at >= CACHED_S:
                self._rendered, self._rendered_at = self._metrics(), time.monotonic()
            return self._rendered


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves *pages* in threads of its own until `close`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, bind: str, pages: Pages, counts: Counter[str]) -> None:
        """Raises OSError where *bind* cannot be listened on."""
        host, _, port = bind.rpartition(":")
        bare = host.strip("[]")
        self.address_family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        self.pages = pages
        self._counts = counts
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((bare, int(port)), Handler)
        self.thread = threading.Thread(target=self.serve_forever, name="http", daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        """What it listens on; the port that was chosen where the setting has 0."""
        host, port = self.server_address[:2]
        text = str(host)
        return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Serve a connection in a thread, or close it at once where there are too many."""
        if not self._free.acquire(blocking=False):
            self._counts[REFUSED] += 1
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread to be had
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """The thread of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """A client that goes away or is too slow is no event."""

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


class Handler(socketserver.BaseRequestHandler):
    """One request and its answer."""

    server: Server
    request: socket.socket

    def handle(self) -> None:
        """Read the request, answer it, and close."""
        deadline = time.monotonic() + REQUEST_S
        head = False
        try:
            method, path, headers = parsed(self._head(deadline))
            head = method == "HEAD"
            answer = self.server.pages.answer(path, headers)
        except BadRequest as refused:
            answer = Answer(refused.status, f"{refused}\n".encode())
        lines = [
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
            *answer.headers,
        ]
        self._left(deadline)
        self.request.sendall(
            "\r\n".join([*lines, "", ""]).encode() + (b"" if head else answer.body)
        )
        with contextlib.suppress(OSError):  # what the client still sends must not reset the answer
            self.request.shutdown(socket.SHUT_WR)

    def _head(self, deadline: float) -> bytes:
        """The request up to the empty line; raises BadRequest."""
        read = b""
        while b"\r\n\r\n" not in read:
            if len(read) >= HEAD_BYTES_MAX:
                raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            self._left(deadline)
            try:
                more = self.request.recv(HEAD_BYTES_MAX - len(read))
            except TimeoutError:
                raise BadRequest(HTTPStatus.REQUEST_TIMEOUT) from None
            if not more:
                raise BadRequest(HTTPStatus.BAD_REQUEST)
            read += more
        return read.partition(b"\r\n\r\n")[0]

    def _left(self, deadline: float) -> None:
        """Let the next operation take no longer than there is left."""
        self.request.settimeout(max(0.01, deadline - time.monotonic()))


def parsed(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path without its query, and headers by name in lower case; raises BadRequest."""
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(HTTPStatus.BAD_REQUEST)
        headers[name.strip().lower()] = value.strip()
    if words[0] not in {"GET", "HEAD"}:
        raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED)
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return words[0], words[1].partition("?")[0], headers


class Listener:
    """
    Serves *pages* on *bind* from now on, or as soon as that can be listened on; null: never.

    A port that another process has is no reason not to forecast: it is logged once, and tried
    again now and then, because the other process may end.
    """

    def __init__(self, bind: str | None, pages: Pages, counts: Counter[str], lines: Lines) -> None:
        self._bind, self._pages, self._counts, self._lines = bind, pages, counts, lines
        counts[REFUSED] += 0  # the key is there: no thread changes the size of the loop's counts
        self._closing = threading.Event()
        self._logged = False
        self.server: Server | None = None
        self._retrying = threading.Thread(target=self._retry, name="http-bind", daemon=True)
        if bind is not None and not self._tried(bind):
            self._retrying.start()

    def close(self) -> None:
        """Listen no more."""
        self._closing.set()
        if self._retrying.is_alive():
            self._retrying.join()
        if self.server is not None:
            self.server.close()

    def _retry(self) -> None:
        assert self._bind is not None
        while not self._closing.wait(RETRY_S):
            if self._tried(self._bind):
                return

    def _tried(self, bind: str) -> bool:
        try:
            self.server = Server(bind, self._pages, self._counts)
        except (OSError, OverflowError) as error:
            if not self._logged:
                self._logged = True
                self._lines.warning("http.unavailable", bind=bind, reason=str(error))
            return False
        self._lines.info("http.listening", address=self.server.address)
        return True
