"""Readings into a log: their sources (files, pipes, this machine, a generator) and the feed."""

from streamer.feed.feeder import FeedProgress, Pace, feed

__all__ = ["FeedProgress", "Pace", "feed"]
