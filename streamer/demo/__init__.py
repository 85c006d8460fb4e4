"""The parts of `streamer demo`: processes, scores of their forecasts, and a view."""
