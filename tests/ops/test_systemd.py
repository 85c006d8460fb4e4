"""The messages to the service manager, on a socket of the test."""

from __future__ import annotations

import os
import socket

import pytest

from streamer.ops.systemd import Systemd


class Socket:
    """A service manager's end of the line."""

    def __init__(self, address: str) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.line.bind(address)
        self.line.setblocking(False)

    def received(self) -> list[str]:
        words = []
        while True:
            try:
                words.append(self.line.recv(4096).decode())
            except BlockingIOError:
                return words


@pytest.fixture
def service(tmp_path):
    service = Socket(str(tmp_path / "notify"))
    yield service
    service.line.close()


def test_ready_is_sent_once(service):
    """Every turn may report it; the first one counts."""
    systemd = Systemd({"NOTIFY_SOCKET": service.line.getsockname()})
    systemd.ready()
    systemd.ready()
    systemd.status("running")
    systemd.stopping()
    assert service.received() == ["READY=1", "STATUS=running", "STOPPING=1"]


def test_the_watchdog_is_notified_at_half_its_interval(service):
    """However often the loop goes round."""
    now = [0.0]
    environ = {"NOTIFY_SOCKET": service.line.getsockname(), "WATCHDOG_USEC": "60000000"}
    systemd = Systemd(environ, monotonic=lambda: now[0])
    for now[0] in (0, 1, 29, 30, 31, 59, 61):
        systemd.alive()
    assert service.received() == ["WATCHDOG=1"] * 3


def test_a_watchdog_of_another_process_is_ignored(service):
    """A child inherits the environment, not the duty."""
    environ = {"NOTIFY_SOCKET": service.line.getsockname(), "WATCHDOG_USEC": "1000"}
    Systemd(environ | {"WATCHDOG_PID": str(os.getpid() + 1)}).alive()
    assert service.received() == []
    Systemd(environ | {"WATCHDOG_PID": str(os.getpid())}).alive()
    assert service.received() == ["WATCHDOG=1"]


def test_waiting_for_the_log_asks_for_more_time_until_it_is_ready(service):
    """A start that waits is no failed start."""
    systemd = Systemd({"NOTIFY_SOCKET": service.line.getsockname()})
    systemd.extend(30)
    systemd.ready()
    systemd.extend(30)
    assert service.received() == ["EXTEND_TIMEOUT_USEC=30000000", "READY=1"]


def test_an_abstract_socket_is_reached():
    """Its name begins with @ in the environment, and with a zero byte on the line."""
    name = f"streamer-test-{os.getpid()}"
    service = Socket(f"\0{name}")
    Systemd({"NOTIFY_SOCKET": f"@{name}"}).ready()
    assert service.received() == ["READY=1"]
    service.line.close()


def test_without_a_service_manager_nothing_is_sent():
    """And nothing fails."""
    systemd = Systemd({})
    systemd.ready()
    systemd.alive()
    systemd.extend(1)
    systemd.stopping()
