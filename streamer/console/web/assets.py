"""The files of the pages: our own from the package, the chart library from plotly's."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

HTML = "text/html; charset=utf-8"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
TEMPLATE = "page.html"
CHARTS = "plotly.min.js"


class File(NamedTuple):
    """A file, compressed once."""

    packed: bytes
    media_type: str
    tag: str


class Assets:
    """
    Serves files by their names, and a page of each of *titles* by its name.

    There are no others than those that are there at the start.
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        folder = resources.files("streamer.console").joinpath("static")
        self._files = {
            each.name: file(each.read_bytes(), TYPES[Path(each.name).suffix])
            for each in folder.iterdir()
            if Path(each.name).suffix in TYPES
        }
        template = folder.joinpath(TEMPLATE).read_text("utf-8")
        for page, title in titles.items():
            text = template.replace("{page}", page).replace("{title}", title)
            self._files[f"{page}.html"] = file(text.encode(), HTML)
        charts = charts_path()
        if charts is not None:
            self._files[CHARTS] = file(charts.read_bytes(), TYPES[".js"])

    def answer(self, name: str, request: Request) -> Response:
        """The file, or that it has not changed, or 404."""
        found = self._files.get(name)
        if found is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        headers = {"ETag": found.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(found.packed, media_type=found.media_type, headers=headers)
        return Response(gzip.decompress(found.packed), media_type=found.media_type, headers=headers)


def file(content: bytes, media_type: str) -> File:
    """A file of *content*."""
    tag = hashlib.blake2b(content, digest_size=12).hexdigest()
    return File(gzip.compress(content, 6, mtime=0), media_type, f'"{tag}"')


def charts_path() -> Path | None:
    """Where the installed plotly has its library for browsers; None if it has none."""
    found = importlib.util.find_spec("plotly")
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(place) / "package_data" / CHARTS
        if path.is_file():
            return path
    return None
