"""Three paths over HTTP; no client can hold up more than its own connection."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections import Counter

import pytest

from streamer.log import PermanentError
from streamer.ops import http
from streamer.ops.http import Listener, Pages, Server


class Logger:
    def __init__(self):
        self.lines = []

    def info(self, event, **fields):
        self.lines.append((event, fields))

    warning = info


@pytest.fixture
def served():
    """A way to serve pages: returns the server; all are closed at the end."""
    servers = []

    def begin(bind="127.0.0.1:0", **parts):
        parts = {
            "metrics": lambda: b"m 1\n",
            "content_type": "text/plain; version=0.0.4",
            "why_dead": lambda: "",
            "why_not_ready": lambda: "restoring",
        } | parts
        servers.append(Server(bind, Pages(**parts), Counter()))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


def get(server, path, **headers):
    """Status and body."""
    asked = urllib.request.Request(f"http://{server.address}{path}", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def raw(server, text):
    """What comes back for these bytes."""
    with socket.create_connection(server.server_address[:2], timeout=10) as line:
        line.sendall(text)
        found = b""
        while more := line.recv(4096):
            found += more
    return found


def test_it_serves_metrics_and_probes(served):
    server = served()
    assert get(server, "/metrics?x=1") == (200, b"m 1\n")
    assert get(server, "/livez") == (200, b"ok\n")
    assert get(server, "/readyz") == (503, b"restoring\n")
    assert get(server, "/etc/passwd")[0] == 404
    assert get(server, "/")[0] == 200


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_it_listens_on_the_configured_address(served, bind):
    try:
        server = served(bind)
    except OSError:
        pytest.skip("no such address here")
    assert get(server, "/livez")[0] == 200


def test_metrics_may_ask_for_a_token_and_probes_never_do(served):
    token = ["first"]
    server = served(token=lambda: token[0])
    assert get(server, "/metrics")[0] == 401
    assert get(server, "/metrics", Authorization="Bearer wrong")[0] == 401
    assert get(server, "/metrics", Authorization="Basic first")[0] == 401
    assert get(server, "/metrics", Authorization="Bearer first")[0] == 200
    token[0] = "second"
    assert get(server, "/metrics", Authorization="Bearer first")[0] == 401
    assert get(server, "/livez")[0] == 200


def test_a_token_that_cannot_be_read_admits_nobody(served):
    def unreadable():
        raise PermanentError("unreadable")

    server = served(token=unreadable)
    assert get(server, "/metrics", Authorization="Bearer x")[0] == 401


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"\xff\x00\r\n\r\n", 400),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 200),
    ],
)
def test_other_requests_are_refused(served, request_bytes, status):
    answer = raw(served(), request_bytes)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert b"Connection: close" in head
    assert (body == b"") == request_bytes.startswith(b"HEAD")


def test_a_client_that_drips_is_cut_off(served, monkeypatch):
    """A byte now and then puts the end of its time off by nothing."""
    monkeypatch.setattr(http, "REQUEST_S", 0.5)
    server = served()
    with socket.create_connection(server.server_address[:2], timeout=10) as line:
        began, answer = time.monotonic(), b""
        line.settimeout(0.1)
        while not answer and time.monotonic() - began < 5:
            try:
                line.sendall(b"G")
                answer = line.recv(100)
            except TimeoutError:
                continue
            except OSError:
                break
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 3


def test_connections_beyond_the_limit_are_closed_and_counted(served, monkeypatch):
    """And those that end make room."""
    monkeypatch.setattr(http, "REQUEST_S", 1.0)
    server = served()
    idle = [
        socket.create_connection(server.server_address[:2], timeout=10)
        for _ in range(http.CONNECTIONS_MAX)
    ]
    with socket.create_connection(server.server_address[:2], timeout=10) as line:
        assert line.recv(1) == b""
    assert server._counts[http.REFUSED] == 1
    for each in idle:
        each.close()
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        try:
            assert get(server, "/livez")[0] == 200
            break
        except OSError:
            time.sleep(0.05)
    else:
        pytest.fail("no room again")


def test_many_scrapes_at_once_render_once(served):
    rendered = []

    def text():
        rendered.append(1)
        return b"m\n"

    server = served(metrics=text)
    assert {get(server, "/metrics") for _ in range(5)} == {(200, b"m\n")}
    assert len(rendered) <= 2


def test_a_port_that_is_taken_is_logged_once_and_tried_again(served, monkeypatch):
    """The process goes on meanwhile, and listens once the port is free."""
    monkeypatch.setattr(http, "RETRY_S", 0.05)
    first, logger = served(), Logger()
    listener = Listener(first.address, first.pages, Counter(), logger)
    time.sleep(0.3)
    assert listener.server is None
    ((event, fields),) = logger.lines
    assert event == "http.unavailable"
    assert fields["bind"] == first.address
    first.close()
    ends = time.monotonic() + 10
    while len(logger.lines) < 2 and time.monotonic() < ends:
        time.sleep(0.02)
    assert logger.lines[1] == ("http.listening", {"address": first.address})
    assert get(listener.server, "/livez")[0] == 200
    listener.close()


def test_it_ends_while_it_waits_for_a_port(served):
    server, logger = served(), Logger()
    listener = Listener(server.address, server.pages, Counter(), logger)
    began = time.monotonic()
    listener.close()
    assert time.monotonic() - began < 5


def test_without_a_bind_nothing_listens(served):
    logger = Logger()
    listener = Listener(None, served().pages, Counter(), logger)
    listener.close()
    assert (listener.server, logger.lines) == (None, [])
