"""Generated traffic, as rates and as counters, for pretraining and for the demo."""

from streamer.synthetic.counters import Counters, Poll
from streamer.synthetic.flows import Traffic

__all__ = ["Counters", "Poll", "Traffic"]
