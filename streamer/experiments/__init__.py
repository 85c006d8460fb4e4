"""Experiments that show what the network can do."""
