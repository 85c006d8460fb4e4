"""Runs the console: followers in threads, and a web server, until it is asked to stop."""

from __future__ import annotations

import gc
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import uvicorn

from streamer.config.schema import Config, open_client
from streamer.console.follower import Follower, Lines
from streamer.console.store import Store
from streamer.console.web.app import application
from streamer.console.web.saved import SavedFlows
from streamer.ops.metrics import Metrics

CONNECTIONS_MAX = 200
HEAD_BYTES_MAX = 32_768
IDLE_S = 30  # of a connection that is kept
LOOK_S = 1.0
NEW_OBJECTS_MAX = 50_000  # before cycles are searched for: decoding makes many objects, no cycles
RETRY_S = 10.0  # between attempts to listen on a port that is taken


class Console:
    """A store with its followers and its server."""

    def __init__(self, config: Config, version: str, options: Sequence[str], lines: Lines) -> None:
        self._config, self._lines = config, lines
        self._stop = threading.Event()
        self.store = Store(config)
        self._counts: Counter[str] = Counter()
        self._levels: dict[str, float] = {}
        metrics = Metrics("console", version, self._counts, self._levels)
        self._app = application(self.store, SavedFlows(options), version, metrics, self._counts)
        self._followers = [
            Follower(
                self.store, topic, lambda: open_client(config, existing=True), self._stop, lines
            )
            for topic in self.store.topics.values()
        ]

    def run(self, stopping: Callable[[float], bool], notify: Callable[[], None]) -> None:
        """
        Serve until *stopping*, which waits for so many seconds, returns true.

        *notify* is called now and then while it serves.
        """
        gc.freeze()  # libraries stay
        gc.set_threshold(NEW_OBJECTS_MAX)
        for each in self._followers:
            each.thread.start()
        try:
            while True:
                bound = self._bound(stopping)
                if bound is None:
                    return
                if self._serve(bound, stopping, notify):
                    return
        finally:
            self._stop.set()

    def count(self) -> None:
        """Bring the metrics up to date."""
        for role, topic in self.store.topics.items():
            self._counts[f"read.{role}"] = topic.records
            self._counts[f"ignored.{role}"] = sum(topic.junk.values())
        self._levels["flows"] = len(self.store.flows)
        self._levels["behind"] = sum(topic.behind for topic in self.store.topics.values())

    def _bound(self, stopping: Callable[[float], bool]) -> socket.socket | None:
        """A socket that listens at the address of the settings; None when it is time to stop."""
        logged = False
        while True:
            try:
                return listening(self._config.console.bind)
            except (OSError, OverflowError) as error:
                if not logged:
                    logged = True
                    bind = self._config.console.bind
                    self._lines.warning("http.unavailable", bind=bind, reason=str(error))
            if stopping(RETRY_S):
                return None

    def _serve(
        self, bound: socket.socket, stopping: Callable[[float], bool], notify: Callable[[], None]
    ) -> bool:
        """Serve; false if the server ended by itself."""
        settings = uvicorn.Config(
            self._app,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            http="h11",
            loop="asyncio",
            ws="none",
        )
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, args=([bound],), name="http", daemon=True)
        thread.start()
        self._lines.info("http.listening", address=address(bound))
        try:
            while thread.is_alive():
                if stopping(LOOK_S):
                    return True
                self.count()
                notify()
        finally:
            server.should_exit = True
            thread.join(5.0)
            bound.close()
        return False


def listening(bind: str) -> socket.socket:
    """A socket that listens on *bind*; raises OSError."""
    host, _, port = bind.rpartition(":")
    bare = host.strip("[]")
    found = socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((bare, int(port)))
        found.listen(128)
    except BaseException:
        found.close()
        raise
    return found


def address(bound: socket.socket) -> str:
    """What *bound* listens on, as in a URL."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
