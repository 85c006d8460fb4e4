"""Operations: logging, telemetry, systemd, secrets, supervised processes."""
