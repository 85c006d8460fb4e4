"""Around the process: logging, telemetry, systemd, secrets, supervised processes."""
