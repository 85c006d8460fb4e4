"""A page of the table of flows: searched, sorted and cut by the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.console.codes import decoded
from streamer.console.flows import FlowTable
from streamer.console.history import Slots
from streamer.console.payloads import FlowRow, FlowsPage
from streamer.console.store import Store
from streamer.console.views import number, numbers, share, skill

RECENT = 48  # steps of a sparkline
SIZE_MAX = 500
SORTS: dict[str, Callable[[dict[str, NDArray[Any]]], NDArray[Any]]] = {
    "rate": lambda columns: columns["rate"],
    "error": lambda columns: columns["error"] / positive(columns["mean"]),
    "skill": lambda columns: 1 - columns["error"] / positive(columns["error_last"]),
    "coverage": lambda columns: columns["held"],
    "chance": lambda columns: columns["chance"],
    "unusual": lambda columns: np.abs(columns["unusual"]),
    "made_at": lambda columns: columns["made_at"].astype(np.float64),
}
ORDERS = ("asc", "desc")


def positive(values: NDArray[Any]) -> NDArray[Any]:
    """*values*, NaN where they are not above zero."""
    return np.where(values > 0, values, np.nan)


class FlowIndex:
    """The order of names, kept until flows come or go."""

    def __init__(self) -> None:
        self._version = -1
        self._place: NDArray[np.int64] = np.zeros(0, np.int64)

    def places(self, version: int, folded: list[str]) -> NDArray[np.int64]:
        """Of each slot: its place among all names in order."""
        if version != self._version:
            order = sorted(range(len(folded)), key=folded.__getitem__)
            self._place = np.empty(len(folded), np.int64)
            self._place[order] = np.arange(len(folded))
            self._version = version
        return self._place


def flows_page(  # noqa: PLR0913 - what is chosen, in which order, and which page of it
    store: Store, index: FlowIndex, *, search: str, sort: str, order: str, page: int, size: int
) -> FlowsPage:
    """
    A page of the flows whose names contain each word of *search*, whatever its case.

    Flows without the value that is sorted by come last in either order.
    """
    with store.lock:
        table = store.flows
        used = table.used()
        needed = ("rate", "mean", "error", "error_last", "held", "chance", "unusual", "made_at")
        columns = {name: table.columns[name][used] for name in needed}
        folded, version = list(table.folded), table.names_version
    places = chosen(folded, used, search)
    slots, columns = used[places], {name: each[places] for name, each in columns.items()}
    if sort == "flow":
        keys = index.places(version, folded)[slots].astype(np.float64)
    else:
        keys = SORTS[sort](columns).astype(np.float64)
    keys = np.where(np.isnan(keys), np.inf, keys if order == "asc" else -keys)
    shown = slots[np.argsort(keys, kind="stable")[(page - 1) * size : page * size]]
    with store.lock:
        rows = read_rows(store.flows, shown)
    return FlowsPage(
        flows=len(used),
        matched=len(slots),
        page=page,
        size=size,
        sort=sort,
        order=order,
        step_s=store.shape.step_s,
        ahead_s=store.shape.ahead * store.shape.step_s,
        share=round(store.topics["forecasts"].share, 4),
        rows=rows,
    )


def chosen(folded: list[str], used: Slots, search: str) -> Slots:
    """The places in *used* of flows whose names contain each word of *search*."""
    found = range(len(used))
    slots = used.tolist()
    for word in search.casefold().split():
        found = [place for place in found if word in folded[slots[place]]]  # type: ignore[assignment]
    return np.fromiter(found, np.intp, len(found))


def read_rows(table: FlowTable, slots: Slots) -> list[FlowRow]:
    """Rows of the table; the caller holds the lock. A slot that was freed meanwhile is left out."""
    slots = slots[table.columns["made_at"][slots] >= 0]
    recent = decoded(table.history.rates(slots, min(RECENT, table.history.length)))
    columns = table.columns
    return [
        FlowRow(
            flow=table.names[slot],
            unit=table.units.texts[columns["unit"][slot]],
            rate=number(columns["rate"][slot]),
            mean=number(columns["mean"][slot]),
            made_at=int(columns["made_at"][slot]),
            error=share(columns["error"][slot], columns["mean"][slot]),
            skill=skill(columns["error"][slot], columns["error_last"][slot]),
            coverage=number(columns["held"][slot]),
            chance=number(columns["chance"][slot]),
            unusual=number(columns["unusual"][slot]),
            served_by=table.predictors.texts[columns["served_by"][slot]],
            generation=int(columns["generation"][slot]),
            recent=numbers(strip),
        )
        for slot, strip in zip(slots.tolist(), recent, strict=True)
    ]
