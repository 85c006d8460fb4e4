"""Traffic out of thin air, as rates and as counters, for teaching and for showing."""

from streamer.synthetic.counters import Counters, Told
from streamer.synthetic.flows import Traffic

__all__ = ["Counters", "Told", "Traffic"]
