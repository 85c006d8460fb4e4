"""Real programs that write metrics, and what the decoders make of their messages."""
