"""A request has one of three outcomes, within its time, whatever the receiver does."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time

import pytest

from streamer.log import PermanentError
from streamer.notify.connection import Connection, Outcome, judged, seconds_until
from streamer.notify.settings import ReceiverConfig
from tests.notify.receiver import Receiver, drip, hang, raw, status

TIMEOUT_S = 0.4


@pytest.fixture
def connection():
    """Makes connections to a receiver, and closes them."""
    made = []

    def connect(receiver: Receiver, path="/api", **more) -> Connection:
        options = {"url": receiver.url} | more
        made.append(Connection(ReceiverConfig(**options), path, TIMEOUT_S))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def post(to: Connection):
    return to.post(b"{}", "application/json")


def test_a_request_arrives_as_it_was_made(connection, receiver):
    """Method, path, length and type; the connection is kept."""
    to = connection(receiver)
    assert [post(to).outcome for _ in range(3)] == [Outcome.TAKEN] * 3
    (first, *_) = receiver.requests
    assert first.line == "POST /api HTTP/1.1"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["host"] == f"localhost:{receiver.port}"
    assert first.body == b"{}"
    assert receiver.connections == 1


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (200, Outcome.TAKEN),
        (202, Outcome.TAKEN),
        (302, Outcome.RETRY),
        (400, Outcome.REFUSED),
        (401, Outcome.RETRY),
        (404, Outcome.RETRY),
        (422, Outcome.REFUSED),
        (429, Outcome.RETRY),
        (500, Outcome.RETRY),
        (503, Outcome.RETRY),
    ],
)
def test_a_status_decides(connection, receiver, code, outcome):
    receiver.default = status(code, body=b"it is\n so")
    answer = post(connection(receiver))
    assert (answer.outcome, answer.status, answer.reason) == (outcome, code, "it is so")


@pytest.mark.parametrize("behaviour", [hang, drip])
def test_a_receiver_that_hangs_is_given_up(connection, receiver, behaviour):
    """Also one that sends a byte now and then."""
    receiver.default = behaviour
    started = time.monotonic()
    answer = post(connection(receiver))
    assert time.monotonic() - started < 4 * TIMEOUT_S
    assert (answer.outcome, answer.reason) == (Outcome.RETRY, "no answer within 0.4 s")


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (b"\x16\x03\x01 this is no HTTP \r\n\r\n", Outcome.RETRY),
        (b"HTTP/1.1 two hundred\r\n\r\n", Outcome.RETRY),
        (b"", Outcome.RETRY),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", Outcome.TAKEN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz", Outcome.TAKEN),
        (b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe{not JSON" + b"x" * 200_000, Outcome.TAKEN),
        (b"HTTP/1.1 500 No\r\nContent-Length: -5\r\n\r\n", Outcome.RETRY),
    ],
)
def test_a_malformed_response(connection, receiver, text, outcome):
    """A status line counts, and what follows it does not; without one nothing was taken."""
    receiver.default = raw(text)
    assert post(connection(receiver)).outcome is outcome


def test_a_connection_that_was_closed_meanwhile_is_opened_again(connection, receiver):
    """An idle connection may be closed by the receiver at any time: that is no failure."""
    to = connection(receiver)
    receiver.behaviours = [status(200), raw(b"")]
    assert [post(to).outcome for _ in range(2)] == [Outcome.TAKEN] * 2
    assert len(receiver.requests) == 3


def test_a_receiver_that_is_away():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    to = Connection(ReceiverConfig(url=f"http://127.0.0.1:{port}"), "/", TIMEOUT_S)
    answer = post(to)
    assert (answer.outcome, answer.status) == (Outcome.RETRY, None)
    assert "refused" in answer.reason


@pytest.mark.parametrize(
    ("url", "path", "target"),
    [
        ("http://h", "/api", "/api"),
        ("http://h/", "/api", "/api"),
        ("http://h/am/", "/api", "/am/api"),
        ("http://h", "", "/"),
        ("http://h/hook/", "", "/hook/"),
        ("http://h/hook?a=1", "", "/hook?a=1"),
    ],
)
def test_the_path_is_appended(url, path, target):
    assert Connection(ReceiverConfig(url=url), path, 1)._target == target


def test_the_authorization_is_read_for_each_request(connection, receiver, tmp_path):
    """A token may be replaced; a header may be given whole; one with a line break is refused."""
    file = tmp_path / "token"
    file.write_text("abc\n")
    file.chmod(0o600)
    to = connection(receiver, authorization_file=str(file))
    to.check("notify.webhooks.0")
    post(to)
    file.write_text("Basic dXNlcjpwYXNz")
    post(to)
    sent = [request.headers["authorization"] for request in receiver.requests]
    assert sent == ["Bearer abc", "Basic dXNlcjpwYXNz"]
    file.write_text("a\r\nX: b")
    assert post(to).outcome is Outcome.RETRY
    with pytest.raises(PermanentError, match=r"notify\.webhooks\.0"):
        to.check("notify.webhooks.0")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of localhost that signs itself, and its key."""
    at = tmp_path_factory.mktemp("tls")
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(at / "key.pem"), "-out", str(at / "cert.pem")),
        ],
        check=False,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("openssl does not make a certificate here")
    return at / "cert.pem", at / "key.pem"


# The receiver's threads close their sockets after the test, whenever they are scheduled.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_and_the_certificate_of_the_client(connection, certificate):
    """The receiver's certificate is verified, and the client's is sent if there is one."""
    cert, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(cert))
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    receiver = Receiver(context)
    files = {"ca_file": str(cert), "cert_file": str(cert), "key_file": str(key)}
    assert post(connection(receiver, **files)).outcome is Outcome.TAKEN
    assert post(connection(receiver, **(files | {"ca_file": None}))).outcome is Outcome.RETRY
    without = connection(receiver, ca_file=str(cert))
    assert post(without).outcome is Outcome.RETRY
    receiver.close()


def test_a_handshake_that_hangs_is_given_up(connection, receiver, certificate):
    """The receiver accepts the connection and does not use TLS."""
    url, ca_file = f"https://localhost:{receiver.port}", str(certificate[0])
    answer = post(connection(receiver, url=url, ca_file=ca_file))
    assert answer.outcome is Outcome.RETRY


def test_files_that_are_missing_are_found_at_start():
    to = ReceiverConfig(url="https://h", ca_file="/nowhere/ca.pem")
    with pytest.raises(PermanentError, match=r"notify\.webhooks\.1"):
        Connection(to, "/", 1).check("notify.webhooks.1")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (None, None),
        ("soon", None),
        ("-3", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(text, seconds):
    assert seconds_until(text, 0.0) == seconds
    assert judged(429, text, b"", 0.0).retry_after_s == seconds
