"""A name for what comes from Kafka's client, which ships no types."""

from __future__ import annotations

from typing import Any, TypeAlias

Untyped: TypeAlias = Any
