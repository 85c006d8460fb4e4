"""
Reads secrets from files or from the environment, never from the configuration.

A file is named by its path, or by its bare name under `$CREDENTIALS_DIRECTORY`, which systemd
fills according to `LoadCredential=`. It is read again each time, so that a new secret takes
effect with the next connection.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import structlog

from streamer.log import Misconfigured

BYTES_MAX = 1 << 16  # maximum size of a file; a token has some thousands of bytes
log = structlog.get_logger()
_warned_about: set[Path] = set()  # files that others may read and that were warned about


def secret(key: str, file: str | None, variable: str) -> str | None:
    """
    Return the secret in *file*, or else in the environment's *variable*; None if neither is set.

    One newline at the end is removed. Raises Misconfigured, naming *key*, if the file cannot be
    read or is empty.
    """
    if file is None:
        return os.environ.get(variable)
    path = located(file)
    try:
        with open(path, "rb", opener=without_waiting) as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise Misconfigured(f"{key}: {path} is no regular file")
            read = opened.read(BYTES_MAX + 1)
        if len(read) > BYTES_MAX:
            raise Misconfigured(f"{key}: {path} is longer than {BYTES_MAX:,} bytes")
        text = read.decode().replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{key}: cannot read {path}: {error}") from error
    if mode & (stat.S_IRGRP | stat.S_IROTH) and path not in _warned_about:
        _warned_about.add(path)
        log.warning("secret.exposed", path=str(path), mode=f"{stat.S_IMODE(mode):04o}")
    if not text.removesuffix("\n"):
        raise Misconfigured(f"{key}: {path} is empty")
    return text.removesuffix("\n")


def located(file: str) -> Path:
    """Return the path of *file*: a bare name is first looked up among the service's credentials."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory and "/" not in file and (Path(directory) / file).exists():
        return Path(directory) / file
    return Path(file)


def without_waiting(path: str, flags: int) -> int:
    """An opener for `open`: a pipe without a writer must not block."""
    return os.open(path, flags | os.O_NONBLOCK)
