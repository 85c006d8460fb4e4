"""
HTTP requests to one receiver, each with a limit on its whole time.

A receiver may refuse, be busy, hang at any byte, or answer with anything. Each outcome is one of
three: the body was taken, it will never be taken, or it may be taken later. Redirects are not
followed, because they would carry the authorization elsewhere.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from streamer.log import PermanentError
from streamer.notify.settings import ReceiverConfig
from streamer.ops.secrets import located, secret

ANSWER_BYTES_MAX = 1 << 16  # what is longer is not read, and the connection is closed
REASON_MAX = 200  # characters of an answer in a log line
# The request itself is at fault: sent again unchanged, it would be refused again.
REFUSALS = frozenset({400, 405, 406, 410, 411, 413, 414, 415, 422, 431})


class Outcome(enum.Enum):
    """What became of a request."""

    TAKEN = "taken"
    REFUSED = "refused"  # never send it again unchanged
    RETRY = "retry"  # the receiver, or the way to it, fails now


class Answer(NamedTuple):
    """The outcome, and why."""

    outcome: Outcome
    status: int | None  # None: no answer of HTTP
    reason: str
    retry_after_s: float | None = None


class Connection:
    """A connection to *receiver*, opened when it is needed and kept while it works."""

    def __init__(
        self,
        receiver: ReceiverConfig,
        path: str,
        timeout_s: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        at = urlsplit(receiver.url)
        self._receiver, self._timeout_s, self._wall = receiver, timeout_s, wall
        self._tls = at.scheme == "https"
        self._host = at.hostname or ""
        self._port = at.port or (443 if self._tls else 80)
        query = f"?{at.query}" if at.query else ""
        self._target = f"{at.path.rstrip('/') if path else at.path}{path}{query}" or "/"
        self._guard = threading.Lock()  # of the two below, which the deadline's thread reads
        self._socket: socket.socket | None = None
        self._late = False
        self._http: http.client.HTTPConnection | None = None

    def check(self, key: str) -> None:
        """Raise PermanentError, naming *key*, if a file of the settings cannot be used."""
        self._authorization(key)
        if self._tls:
            self._context(key)

    def post(self, body: bytes, content_type: str) -> Answer:
        """Send *body* once, within the limit."""
        reused = self._http is not None
        answer = self._within_limit(body, content_type)
        if reused and answer.status is None and not self._late:
            # The receiver had closed an idle connection.
            answer = self._within_limit(body, content_type)
        return answer

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._drop()

    def _within_limit(self, body: bytes, content_type: str) -> Answer:
        self._late = False
        deadline = threading.Timer(self._timeout_s, self._abort)
        deadline.daemon = True
        deadline.start()
        try:
            return self._post(body, content_type)
        except PermanentError as error:
            why = str(error)
        except http.client.HTTPException as error:
            why = f"no answer of HTTP: {type(error).__name__} {error}".strip()
        except (OSError, ValueError) as error:
            why = str(error) or type(error).__name__
        finally:
            deadline.cancel()
        self._drop()
        if self._late:
            why = f"no answer within {self._timeout_s:g} s"
        return Answer(Outcome.RETRY, None, shortened(why))

    def _post(self, body: bytes, content_type: str) -> Answer:
        headers = {"Content-Type": content_type, "User-Agent": "streamer", "Accept": "*/*"}
        authorization = self._authorization("authorization_file")
        if authorization is not None:
            headers["Authorization"] = authorization
        if self._http is None:
            self._http = self._opened()
        self._http.request("POST", self._target, body, headers)
        response = self._http.getresponse()
        if self._late:  # what looks like the end of its headers is our own doing
            raise TimeoutError
        text = b""
        try:
            text = response.read(ANSWER_BYTES_MAX)
            if not response.isclosed() or self._http.sock is None:
                self._drop()
        except (OSError, http.client.HTTPException):  # the status has come, and it decides
            self._drop()
        finally:
            response.close()
        return judged(response.status, response.headers.get("Retry-After"), text, self._wall())

    def _opened(self) -> http.client.HTTPConnection:
        """Connect; the deadline's thread can end the handshake too."""
        raw: socket.socket = socket.create_connection((self._host, self._port), self._timeout_s)
        self._hold(raw)
        if not self._tls:
            plain = http.client.HTTPConnection(self._host, self._port)
            plain.sock, plain.auto_open = raw, 0  # it must not connect by itself, without a limit
            return plain
        context = self._context("ca_file")
        wrapped = context.wrap_socket(
            raw, server_hostname=self._host, do_handshake_on_connect=False
        )
        self._hold(wrapped)
        wrapped.do_handshake()
        secure = http.client.HTTPSConnection(self._host, self._port, context=context)
        secure.sock, secure.auto_open = wrapped, 0
        return secure

    def _context(self, key: str) -> ssl.SSLContext:
        """The trust and the client's certificate, read again for each connection."""
        receiver = self._receiver
        try:
            authorities = None if receiver.ca_file is None else str(located(receiver.ca_file))
            context = ssl.create_default_context(cafile=authorities)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if receiver.cert_file is not None:
                private = None if receiver.key_file is None else str(located(receiver.key_file))
                # Without a function, OpenSSL would ask at the terminal.
                context.load_cert_chain(str(located(receiver.cert_file)), private, lambda: "")
        except (OSError, ValueError) as error:
            raise PermanentError(f"{key}: {error}") from error
        return context

    def _authorization(self, key: str) -> str | None:
        """The header: `Bearer TOKEN` or `Basic …` as the file has it, or its token."""
        if self._receiver.authorization_file is None:
            return None
        text = (secret(key, self._receiver.authorization_file, "") or "").strip()
        if not text.isprintable() or not text.isascii():
            raise PermanentError(f"{key}: must be one line of ASCII")
        return text if " " in text else f"Bearer {text}"

    def _hold(self, opened: socket.socket) -> None:
        with self._guard:
            self._socket = opened
        if self._late:
            raise TimeoutError

    def _abort(self) -> None:
        """End whatever the request waits for."""
        self._late = True
        with self._guard, contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        with self._guard:
            opened, self._socket = self._socket, None
        if self._http is not None:
            self._http.close()
            self._http = None
        if opened is not None:
            opened.close()


def judged(status: int, retry_after: str | None, text: bytes, now: float) -> Answer:
    """What an answer means."""
    reason = shortened(text.decode(errors="replace"))
    if 200 <= status < 300:
        return Answer(Outcome.TAKEN, status, reason)
    if status in REFUSALS:
        return Answer(Outcome.REFUSED, status, reason)
    return Answer(Outcome.RETRY, status, reason, seconds_until(retry_after, now))


def seconds_until(retry_after: str | None, now: float) -> float | None:
    """The pause that `Retry-After` asks for, in seconds or as a date; None if it asks nothing."""
    text = (retry_after or "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(now, UTC)).total_seconds())


def shortened(text: str) -> str:
    """The first line's worth of an answer."""
    return " ".join(text.split())[:REASON_MAX]
