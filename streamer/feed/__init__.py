"""Readings into a log: where they come from (files, pipes, this machine, thin air) and the feed."""

from streamer.feed.feeder import FeedProgress, Pace, feed

__all__ = ["FeedProgress", "Pace", "feed"]
