"""The part that touches the world: the logs, the terminal, the service manager."""
