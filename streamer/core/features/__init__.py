"""From readings to closed steps, and from steps to the network's inputs."""
