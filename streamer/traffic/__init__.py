"""Traffic out of thin air, as rates and as counters, for teaching and for showing."""

from streamer.traffic.counters import Counters, Told
from streamer.traffic.flows import Traffic

__all__ = ["Counters", "Told", "Traffic"]
