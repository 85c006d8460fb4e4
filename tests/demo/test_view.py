"""The demo's screen fits the terminal, and shows the expected text."""

from __future__ import annotations

import math

import pytest
from rich.console import Console

from streamer.demo.chart import SURPRISE, Outlook, draw
from streamer.demo.live_scores import Tally
from streamer.demo.view import Scene, chosen, screen
from tests.demo.test_tally import AHEAD, STEP_S, forecast_line, read

FLAT = Outlook(*([[level] * 4 for level in (25.0, 45.0, 55.0, 65.0, 85.0)]))


def test_a_chart_has_the_size_that_was_asked_for():
    """Whatever is known."""
    for rates in ([], [1.0], [float(n) for n in range(500)]):
        lines = draw(rates, [False] * len(rates), FLAT, width=30, height=5)
        assert [len(line) for line in lines] == [30] * 5


def test_a_columns_height_is_its_rate():
    """Empty for nothing, full for the most, a gap where a step is missing."""
    rates = [0.0, 50.0, 100.0, math.nan]
    lines = draw(rates, [False] * 4, Outlook([], [], [], [], [100.0 / 1.1]), width=5, height=2)
    assert lines[0].plain[:4] == "  ▇ "
    assert lines[1].plain[:4] == " ▇█ "


def test_bands_lie_where_they_are():
    """The median in its row, the inner band around it, the outer one beyond."""
    lines = draw([100.0] * 40, [False] * 40, FLAT, width=20, height=11)
    assert "".join(line.plain[-1] for line in lines) == "  ░░▒━▒░░  "


def test_a_surprise_stands_out():
    """A rate that left its band has another colour."""
    (line,) = draw([5.0, 5.0], [False, True], FLAT, width=8, height=1)
    assert [span.style for span in line.spans if span.style == SURPRISE] == [SURPRISE]


def scene(**changes):
    values = {
        "speed": 7200.0,
        "step_s": STEP_S,
        "seconds": 3.0,
        "readings": 12345,
        "readings_per_s": 2400.0,
        "forecasts_per_s": 2400.0,
        "lag": 0,
        "counters": {"wrapped": 3},
    }
    return Scene(**(values | changes))


def drawn(tally, width, height):
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(screen(tally, scene(), chosen(tally), width, height))
    return capture.get().splitlines()


@pytest.fixture(scope="module")
def tally():
    lines = []
    for flow in range(20):
        for step in range(120):
            rates = [1e6 * (1.2 + math.sin((step + k) / 15 + flow)) for k in range(AHEAD + 1)]
            lines.append(forecast_line(f"edge{flow}/in", step, rates[0], rates[1:], width=1e5))
    return read(*lines)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (60, 15)])
def test_the_screen_fits_the_terminal(tally, width, height):
    """No line is wrapped, no row is pushed out."""
    lines = drawn(tally, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_the_screen_shows_the_current_state(tally):
    """Flows, readings, errors beside the naive ones, and a chart with its numbers."""
    text = "\n".join(drawn(tally, 120, 40))
    assert "20 flows" in text
    assert "12,345 readings" in text
    assert "last value" in text
    assert "1.00" in text
    assert text.count(" in 1 h: ") == 3
    assert "counters: 3 wrapped" in text


def test_before_the_first_forecast_the_screen_shows_an_explanation():
    """Loading takes seconds: time to explain."""
    lines = drawn(Tally((1, AHEAD)), 80, 24)
    assert "loading the network" in lines[0]
    assert max(map(len, lines)) <= 80
