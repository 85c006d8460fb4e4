"""
Writes docs/configuration.md from the comments in config/streamer.yaml.

    python -m tests.docs.configuration
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "config" / "streamer.yaml"
PAGE = ROOT / "docs" / "configuration.md"

KEY = re.compile(
    r"(?P<indent> *)(?P<name>[a-z_0-9]+):"
    r"(?: +(?P<value>[^# ].*?))?"
    r"(?: +# ?(?P<comment>.*))?"
)
COMMENT = re.compile(r" +# ?(?P<comment>.*)")
INTRODUCTION = """\
# Configuration

This page is generated from `config/streamer.yaml` (`python -m tests.docs.configuration`). That file
contains every key with its default. Your file states only the keys that differ.

Sources are applied in this order; a later one overrides an earlier one:

1. the defaults
2. the file: `-c streamer.yaml`
3. the environment: `STREAMER__INPUT__KIND=delta` sets `input.kind`
4. the command line: `--set input.kind=delta`

Durations are written as `500ms`, `60s`, `5m`, `1h`, `7d`, `2w` or as a number of seconds. An
unknown key or an invalid value is refused at start with exit code 78, and the message names the
key's path: `turn.records_max: must be an integer of at least 1, is 0`. `streamer check FILE`
validates a file and prints all values in force.

Secrets are never settings. A key that ends in `_file` names a file; `kafka.sasl_password_file`,
`kafka.ssl_keyfile_password_file` and `kafka.sasl_token_file` name those that hold secrets.
Otherwise `STREAMER_KAFKA_PASSWORD`, `STREAMER_KAFKA_KEY_PASSWORD` and `STREAMER_KAFKA_TOKEN` in
the environment hold them. A bare file name is looked up among systemd's credentials first.
"""


@dataclass
class Section:
    """Keys that stand together; the top level is the section without a name."""

    name: str
    meaning: str = ""
    keys: list[list[str]] = field(default_factory=list)  # name, default, meaning


def sections(text: str) -> list[Section]:
    """The sections of a settings file, with the comments of its keys."""
    top = Section("")
    found = [top]
    current: list[str] | None = None  # the key that a further line of comment belongs to
    for line in text.splitlines():
        key, comment = KEY.fullmatch(line), COMMENT.fullmatch(line)
        if key is not None:
            name, value, meaning = key["name"], key["value"], key["comment"] or ""
            if not key["indent"] and value is None:
                found.append(Section(name, meaning))
                current = None
                continue
            current = [name, value or "", meaning]
            (found[-1] if key["indent"] else top).keys.append(current)
        elif comment is not None and current is not None:
            current[2] = f"{current[2]} {comment['comment'].strip()}".strip()
    return found


def table(section: Section) -> str:
    """A section's keys as a table in Markdown."""
    prefix = f"{section.name}." if section.name else ""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, default, meaning in section.keys:
        shown = f"`{default}`" if default else "a list"  # over several lines of the file
        lines.append(f"| `{prefix}{name}` | {shown} | {escaped(meaning)} |")
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Plain text as Markdown within a cell of a table."""
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("_", "\\_")):
        text = text.replace(sign, instead)
    return text.replace("*", "\\*")


def page(text: str) -> str:
    """The whole page, from the *text* of the settings file."""
    parts = [INTRODUCTION]
    for section in sections(text):
        parts.append(f"## {section.name or 'Top level'}\n")
        if section.meaning:
            parts.append(f"{escaped(section.meaning)}\n")
        parts.append(table(section))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
