"""Pictures: what is odd about a flow does not spoil them."""

import numpy as np
import pytest
from PIL import Image

from streamer.experiments.memory_task import MemoryResult
from streamer.plots.bands import Strip, draw
from streamer.plots.memory import draw as draw_memory

STEPS = 48


def strip(came, high=None):
    bands = np.stack([came * share for share in (0.5, 0.8, 1.0, 1.2, 1.5)], 1)
    if high is not None:
        bands[:, -1] = high
    begins_s = 1_700_000_100 // 3600 * 3600 + 3600 * np.arange(STEPS)
    return Strip("edge1/in", "B/s", begins_s, came, bands.astype(np.float32))


HOURS = np.arange(STEPS)
ODD = {
    "usual": strip(1e6 * (2 + np.sin(HOURS / 4))),
    "peaked": strip(np.where(HOURS % 20 == 3, 1e9, 1e3)),
    "silent": strip(np.zeros(STEPS)),
    "never came": strip(np.full(STEPS, np.nan)),
    "tiny": strip(np.full(STEPS, 1e-12)),
    "wide": strip(np.ones(STEPS), high=1e30),
}


@pytest.mark.parametrize("number", [1, 3, 4, 6])
def test_a_picture_has_room_for_all_of_its_flows(number, tmp_path):
    """Whatever they are like; one above the other, or two abreast."""
    draw(list(ODD.values())[-number:], tmp_path / "bands.png")
    with Image.open(tmp_path / "bands.png") as drawn:
        wide, high = drawn.size
    assert (wide > 1000) == (number >= 4)
    assert high > 150 * (number if number < 4 else number / 2)


@pytest.mark.parametrize("name", ODD)
def test_the_same_forecasts_give_the_same_picture(name, tmp_path):
    """Byte for byte: a picture in a repository changes only when it shows something else."""
    for file in ("one.png", "other.png"):
        draw([ODD[name]], tmp_path / file)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    assert (tmp_path / "one.png").stat().st_size < 80_000


def test_gradients_that_vanish_can_be_drawn(tmp_path):
    """On an axis of logarithms, where there is no zero."""
    vanished = MemoryResult({5: 0.9, 50: 1.0}, [1.0] + [0.0] * 49, [1.0] + [1e-30] * 49)
    kept = MemoryResult({5: 0.1, 50: 0.1}, [1.0] * 50, [1.0] * 50)
    draw_memory({"lstm": kept, "rnn": vanished}, tmp_path / "memory.png")
    assert (tmp_path / "memory.png").stat().st_size > 5_000
