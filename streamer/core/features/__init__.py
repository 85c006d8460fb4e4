"""Conversion of readings to closed steps, and of closed steps to the network's inputs."""
