"""Experiments that show the abilities of the network."""
