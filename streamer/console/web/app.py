"""
The web application: pages, their files, the JSON API, metrics and probes.

Nothing but GET and HEAD is answered, nothing is written, and every answer forbids scripts, styles
and connections from elsewhere. Answers of the API are computed once a second at most, so a hundred
open pages cost little more than one.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamer.console import openapi, views
from streamer.console.openapi import OPERATIONS, PREFIX, BadRequest
from streamer.console.payloads import Problem
from streamer.console.store import Store
from streamer.console.table import FlowIndex, flows_page
from streamer.console.web.assets import Assets
from streamer.console.web.guard import Guard
from streamer.console.web.saved import SavedFlows, Unanswered
from streamer.ops.metrics import CONTENT_TYPE, Metrics

FRESH_S = 1.0  # an answer is given again for so long
ANSWERS_MAX = 256
JSON = "application/json"
TITLES = {  # of each page, by its name
    name: name.capitalize() for name in ("overview", "flows", "flow", "alerts", "models", "input")
}
PAGES = {"/" if name == "overview" else f"/{name}": f"{name}.html" for name in TITLES}


class NotFound(Exception):
    """The requested object is unknown."""


class Answers:
    """Computes the API's answers, and remembers them for FRESH_S."""

    def __init__(self, store: Store, saved: SavedFlows, version: str) -> None:
        index = FlowIndex()
        self._store, self._saved = store, saved
        self._computing = threading.Lock()
        self._known: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._views: dict[str, Callable[..., object]] = {
            "/status": lambda: views.status(store, version),
            "/flows": lambda **asked: flows_page(store, index, **asked),
            "/flow": self._flow,
            "/alerts": lambda **asked: views.alerts(store, **asked),
            "/models": lambda: views.models(store),
            "/input": lambda: views.inputs(store),
        }

    def answer(self, path: str, request: Request) -> bytes:
        """The JSON of an operation; raises BadRequest, NotFound or Unanswered."""
        asked: dict[str, Any] = OPERATIONS[path].read(request.query_params)
        if path == "/flow/state":
            return self._state(**asked)
        key = f"{path}?{sorted(asked.items())}"
        with self._computing:
            known = self._known.get(key)
            if known is not None and time.monotonic() - known[0] < FRESH_S:
                return known[1]
            body = msgspec.json.encode(self._views[path](**asked))
            self._known[key] = time.monotonic(), body
            self._known.move_to_end(key)
            while len(self._known) > ANSWERS_MAX:
                self._known.popitem(last=False)
            return body

    def _flow(self, name: str) -> object:
        found = views.flow(self._store, name)
        if found is None:
            raise NotFound("no forecast of this flow has been read")
        return found

    def _state(self, name: str) -> bytes:
        with self._store.lock:
            slot = self._store.flows.slots.get(name)
            if slot is None:
                raise NotFound("no forecast of this flow has been read")
            partition = int(self._store.flows.columns["partition"][slot])
        return self._saved.read(name, partition)


class Site:
    """Answers requests of each kind."""

    def __init__(self, store: Store, answers: Answers, version: str, metrics: Metrics) -> None:
        self._store, self._answers, self._metrics = store, answers, metrics
        self._assets = Assets(TITLES)
        self._document = msgspec.json.encode(openapi.document(version))

    def routes(self) -> list[Route]:
        """What is answered, and by which method."""
        paths = {
            **dict.fromkeys(PAGES, self.page),
            **{PREFIX + path: self.api for path in OPERATIONS},
            f"{PREFIX}/openapi.json": self.document,
            "/static/{name}": self.file,
            "/metrics": self.metrics,
            "/livez": self.alive,
            "/readyz": self.ready,
        }
        return [Route(path, endpoint, methods=["GET"]) for path, endpoint in paths.items()]

    def api(self, request: Request) -> Response:
        """An operation of the API."""
        try:
            body = self._answers.answer(request.url.path.removeprefix(PREFIX), request)
        except BadRequest as error:
            return problem(400, str(error))
        except NotFound as error:
            return problem(404, str(error))
        except Unanswered as error:
            return problem(503, str(error))
        return Response(body, media_type=JSON, headers={"Cache-Control": "no-store"})

    def document(self, _request: Request) -> Response:
        """The OpenAPI document."""
        return Response(self._document, media_type=JSON)

    def page(self, request: Request) -> Response:
        """A page."""
        return self._assets.answer(PAGES[request.url.path], request)

    def file(self, request: Request) -> Response:
        """A file that pages load."""
        return self._assets.answer(request.path_params["name"], request)

    def metrics(self, _request: Request) -> Response:
        """Metrics of the console itself."""
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    def alive(self, _request: Request) -> Response:
        """It answers, so it is alive."""
        return Response("ok\n", media_type="text/plain")

    def ready(self, _request: Request) -> Response:
        """Not before it has caught up with the forecasts; a log that is away is waited for."""
        topic = self._store.topics["forecasts"]
        if topic.state in {"starting", "catching_up"}:
            text = f"{topic.state}: {topic.share:.0%} of {topic.name} is read\n"
            return Response(text, 503, media_type="text/plain")
        return self.alive(_request)


def application(
    store: Store, saved: SavedFlows, version: str, metrics: Metrics, counts: Counter[str]
) -> Guard:
    """The application behind its guard, which counts requests in *counts*."""
    site = Site(store, Answers(store, saved, version), version, metrics)
    app = Starlette(routes=site.routes(), exception_handlers={404: missing, 405: refused})
    zipped = GZipMiddleware(app, minimum_size=1024, compresslevel=3)
    return Guard(zipped, store.config.console.hosts, counts)


def problem(status: int, text: str) -> Response:
    """Why a request was not answered, as JSON."""
    return Response(msgspec.json.encode(Problem(error=text)), status, media_type=JSON)


def missing(_request: Request, _error: Exception) -> Response:
    """There is no such path."""
    return problem(404, "there is no such page")


def refused(_request: Request, _error: Exception) -> Response:
    """Another method than GET."""
    return problem(405, "only GET is answered")
