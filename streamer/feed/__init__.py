"""Readings into a log: where they come from (files, pipes, this machine, thin air) and the feed."""

from streamer.feed.feeder import Fed, Pace, feed

__all__ = ["Fed", "Pace", "feed"]
