"""A flow's saved row, the weights that it belongs to, and both as one object for programs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamer.config.schema import Config
    from streamer.core.columns import Rows
    from streamer.core.engine import Engine
    from streamer.core.network.model import Forecaster
    from streamer.core.predict.forecast import ForecastSpec
    from streamer.core.state.summary import FlowSummary
    from streamer.log import Client

STEPS_SHOWN = 48  # of the gates


class Found(NamedTuple):
    """A flow's row as it was saved last."""

    row: Rows  # one
    topic: str
    partition: str
    page: str
    generation: int  # of the weights that its state belongs to …
    digest: str  # … and their mark; empty: unknown
    intact: bool  # whether a network of the settings' shape can read its state


def find(
    client: Client, config: Config, engine: Engine, flow: str, only: int | None = None
) -> Found | None:
    """The newest row of *flow* in any partition's pages, or in *only* one's; None without any."""
    from streamer.core.state.page_format import Unreadable
    from streamer.log import TopicMissing

    shape = client.topics().get(config.state_topic)
    if shape is None:
        raise TopicMissing([config.state_topic])
    best: Found | None = None
    for number in range(shape.partitions) if only is None else [only][: only < shape.partitions]:
        for key, value in client.read_table(config.state_topic, number).items():
            topic, partition, what, *page = [*key.decode(errors="replace").rsplit("/", 3), "", ""]
            if what != "page":
                continue
            try:
                held = engine.loader.load(value, engine.table.rows.dtype, Counter())
            except Unreadable:
                continue
            if flow in held.flows:
                at = held.flows.index(flow)
                row = held.rows[at : at + 1].copy()
                if best is None or row["offset"][0] > best.row["offset"][0]:
                    whose = held.generation, held.digest, held.intact
                    best = Found(row, topic, partition, page[0], *whose)
    return best


def weights_of(found: Found, named: Forecaster, client: Client, config: Config) -> Forecaster | str:
    """The model of the row's state, or why it is missing; *named* is that of the settings."""
    from streamer.core.registry.models import WeightsRejected
    from streamer.core.registry.validation import weights_validator
    from streamer.core.wire.generations import weights_key

    topic, number = config.models_topic, found.generation
    if number == named.generation:
        model, where = named, "the settings name"
    else:
        table = client.read_table(topic, 0) if topic in client.topics() else {}
        packed = table.get(weights_key(number))
        if packed is None:
            return f"{topic} has them no more"
        try:
            admitted = weights_validator(config.model)(number, packed)
        except WeightsRejected as unfit:
            return f"those on {topic} do not fit the settings: {unfit.detail}"
        model, where = cast("Forecaster", admitted), f"{topic} has"
    if found.digest not in {"", model.digest}:
        return f"{where} others under this number"
    if not found.intact:
        return "the settings ask for a network of another shape"
    if model.network.config.cell != "lstm":
        return "no network is trained yet, and the naive forecasts serve in its place"
    return model


def described(
    flow: str, found: Found, portrait: FlowSummary, outlook: ForecastSpec, model: Forecaster | str
) -> dict[str, Any]:
    """All of it as plain values, as the console's API has it."""
    from streamer.core.features.baselines import TRACKED_HORIZONS

    layers, why = ([], model) if isinstance(model, str) else (gates(found, outlook, model), "")
    return {
        "flow": flow,
        "partition": f"{found.topic}/{found.partition}",
        "page": found.page,
        "generation": found.generation,
        "kind": portrait.kind,
        "unit": portrait.unit,
        "capacity": portrait.capacity,
        "read_at": portrait.read_at,
        "made_at": portrait.made_at,
        "step_s": outlook.step_s,
        "steps": portrait.steps,
        "missing_share": portrait.missing_share,
        "rates": [rate if np.isfinite(rate) else None for rate in portrait.rates.tolist()],
        "errors": portrait.errors,
        "error": portrait.error,
        "horizons": [anchor.horizon for anchor in TRACKED_HORIZONS],
        "blend": portrait.blend,
        "burst_odds": portrait.burst_odds,
        "served_by": portrait.served_by,
        "layers": layers,
        "no_gates": why,
    }


def gates(found: Found, outlook: ForecastSpec, model: Forecaster) -> list[dict[str, Any]]:
    """
    The gates f, i, o and the cell state C over the last steps, layer by layer, (steps, hidden).

    The inputs of earlier steps are computed again from the rates that the row keeps, as a rollout
    does (`core/registry/rebuild.py`). The last step is the one that the forecaster took.
    """
    import torch

    from streamer.core.network.cell import LSTM
    from streamer.core.registry.rebuild import rebuild

    cell = model.network.cell
    assert isinstance(cell, LSTM)
    row = found.row
    window = rebuild(row, row["open"].astype(np.int64) - 1, outlook.step_s)
    x, started = window.features[:, 0], window.started[:, 0]
    hidden, layers = model.config.hidden, model.config.layers
    state = torch.zeros((1, layers, 2, hidden))
    names = ("f", "i", "o", "C")
    values: list[dict[str, list[list[float]]]] = [{n: [] for n in names} for _ in range(layers)]
    with torch.inference_mode():
        for step in np.flatnonzero(started)[:-1].tolist():
            below = torch.from_numpy(x[step : step + 1].copy())
            after = []
            for layer in range(layers):
                taken = cell.gates(layer, below, state[:, layer, 0], state[:, layer, 1])
                after.append(torch.stack((taken.h, taken.C), dim=1))
                below = taken.h
                for name in names:
                    values[layer][name].append(listed(getattr(taken, name)[0].numpy()))
            state = torch.stack(after, dim=1)
        last = model.gates(row["inputs"], row["state_before"], row["state"])
    for layer, taken in enumerate(last):
        for name in names:
            values[layer][name].append(listed(getattr(taken, name)[0].numpy()))
    return [{name: each[name][-STEPS_SHOWN:] for name in names} for each in values]


def listed(values: NDArray[np.float32]) -> list[float]:
    """To three digits: these are pictures."""
    return np.round(np.nan_to_num(values.astype(np.float64)), 3).tolist()  # type: ignore[no-any-return]
