"""The documents name what the code has: events, counts, exit codes, settings, files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from streamer.__main__ import COMMANDS, EXIT_CODES
from streamer.cli._forecasting import HINTS
from streamer.cli._sources import BAD_INPUT
from streamer.config.errors import sections
from streamer.config.schema import Config, load
from streamer.core.failures import Action
from streamer.core.features.verdicts import Verdict
from streamer.core.registry import promotion
from streamer.core.registry.models import WeightsFlaw
from streamer.core.state.loading import Finding
from streamer.core.types import Reason, RolloutReport
from streamer.core.wire.contests import Contest, Rollback
from streamer.daemon.events import Phase
from streamer.ops.telemetry import COUNTS, LEVELS

ROOT = Path(__file__).parents[2]
README, OPERATIONS = ROOT / "README.md", ROOT / "docs" / "operations.md"
DOCUMENTS = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SOURCES = sorted((ROOT / "streamer").rglob("*.py"))

LINES_MAX = 150  # of the README
WIDTH_MAX = 120
LEVELS_OF_LINES = {"debug", "info", "warning", "error", "exception"}
EVENT = re.compile(r"[a-z]+\.[a-z_]+")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
EFFECTS = Finding.__annotations__["effect"]  # as text: Literal["dropped", …]
EXPANDED = {  # events whose names are put together: by the part that the code spells out
    "flow.": {f"flow.{kind}" for kind in HINTS},
    "state.": {
        f"state.{effect}" for effect in re.findall(r"\w+", str(EFFECTS)) if effect.islower()
    },
    "trainer.": {"trainer.waiting", "trainer.learning", "trainer.caught_up"},
    **{
        f".{what}": {
            f"{role}.{what}" for role in ("console", "forecaster", "notifier", "rekeyer", "trainer")
        }
        for what in ("started", "stopped")
    },
    ".exited": {"console.exited", "notifier.exited", "rekeyer.exited", "trainer.exited"},
}


class Event(NamedTuple):
    """A log line as the code writes it."""

    name: str
    level: str | None  # None: the code chooses
    fields: frozenset[str]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def events_of(tree: ast.AST) -> Iterator[Event]:
    """The log lines of a module; names in variables are looked up among its constants."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        by = call.func
        name = by.attr if isinstance(by, ast.Attribute) else getattr(by, "id", "")
        if name not in LEVELS_OF_LINES | {"log_event", "warn_once"}:
            continue
        level = name if name in LEVELS_OF_LINES else None
        fields = frozenset(each.arg for each in call.keywords if each.arg) - {"exc_info"}
        for event in names_in(call.args[0], tree):
            yield Event(event, level, fields)


def names_in(node: ast.expr, tree: ast.AST) -> Iterator[str]:
    """Every event's name that an expression may be."""
    if isinstance(node, ast.JoinedStr):
        literal = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        if EVENT.fullmatch(f"a{literal}a"):  # a part of a name, with its dot
            yield from sorted(EXPANDED.get(literal, {literal}))
    elif isinstance(node, ast.Name):
        for each in ast.walk(tree):
            if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == node.id:
                yield from names_in(each.value, tree)
    elif isinstance(node, ast.IfExp):
        yield from names_in(node.body, tree)
        yield from names_in(node.orelse, tree)
    elif isinstance(node, ast.Constant) and EVENT.fullmatch(str(node.value)):
        yield str(node.value)


@cache
def events() -> frozenset[Event]:
    """All log lines of the program."""
    return frozenset(event for path in SOURCES for event in events_of(ast.parse(text(path))))


@cache
def described() -> dict[str, list[str]]:
    """The cells beside each event in the tables of the page on operations."""
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text(OPERATIONS).splitlines()
        if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in rows if len(row) == 4}


def counts() -> set[str]:
    """Every field of the line that sums up turns."""
    found = {*COUNTS, *LEVELS}
    found |= {f"verdict.{verdict.name.lower()}" for verdict in Verdict}
    found |= {f"records_failed.{action}" for action in Action}
    found |= {f"flows_{kind}" for kind in HINTS}
    found |= {name.replace("state.", "rows_") for name in EXPANDED["state."]}
    for path in SOURCES:
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("counts"):
                found |= set(constants(node.slice))
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("telemetry.count"):
                found |= set(constants(node.args[0]))
    summed = next(
        node
        for node in ast.walk(ast.parse(text(ROOT / "streamer/ops/telemetry.py")))
        if isinstance(node, ast.FunctionDef) and node.name == "summed"
    )
    for node in ast.walk(summed):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "fields":
            found |= set(constants(node.slice))
    return found


def constants(node: ast.expr) -> list[str]:
    """The text of a constant; none of anything else."""
    whole = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return [node.value] if whole else []


def spans(path: Path) -> set[str]:
    """What stands between backticks."""
    return set(SPAN.findall(text(path)))


def anchors(path: Path) -> set[str]:
    """The headings of a page, as links name them."""
    titles = re.findall(r"^#+ +(.*)$", text(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_the_readme_is_short():
    assert len(text(README).splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_are_short(path):
    """Except rows of tables, which cannot be broken."""
    lines = text(path).splitlines()
    assert [line for line in lines if len(line) > WIDTH_MAX and line[0] != "|"] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path):
    """To a file that is there, and to a heading that it has."""
    for link in LINK.findall(text(path)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_and_settings_that_are_named_exist(path):
    """Code spans that look like a path of this repository, or like a key of a section."""
    keys = {
        f"{name}.{key}"
        for name, section in sections(Config).items()
        for key in section.__struct_fields__
    }
    known = keys | {event.name for event in events()}
    prefixes = tuple(f"{name}." for name in sections(Config))
    for span in spans(path):
        if re.fullmatch(r"(streamer|tests|docs|config|deploy|examples)/[\w./-]+", span):
            assert (ROOT / span).exists(), span
        elif span.startswith(prefixes) and EVENT.fullmatch(span):
            assert span in known, span


def test_commands_that_are_named_exist():
    named = set()
    for path in DOCUMENTS:
        named |= set(re.findall(r"(?:^|`)streamer ([a-z]+)", text(path), re.MULTILINE))
    prose = {"forecasts", "is", "shares"}
    assert named - prose <= set(COMMANDS)


def test_the_code_logs_something():
    """Or the tests below would hold for nothing."""
    assert len(events()) > 30


@pytest.mark.parametrize("event", sorted(events(), key=str), ids=lambda event: event.name)
def test_every_event_is_described(event):
    """With its level and its fields."""
    assert event.name in described()
    level, fields, _ = described()[event.name]
    assert event.level is None or event.level in level.split(", ")
    assert event.fields <= set(SPAN.findall(fields))


def test_no_removed_event_is_described():
    assert set(described()) <= {event.name for event in events()}


def test_every_count_is_described():
    missing = {name for name in counts() if name not in spans(OPERATIONS)}
    assert missing == set()


@pytest.mark.parametrize(
    "values",
    [Reason, WeightsFlaw, promotion.Reason, Phase, Action],
    ids=lambda values: values.__qualname__,
)
def test_every_value_is_described(values):
    """Reasons, flaws and phases that log lines and records have."""
    assert {value.value for value in values} <= spans(OPERATIONS)


@pytest.mark.parametrize("record", [Contest, Rollback, RolloutReport])
def test_every_field_of_a_contest_is_described(record):
    assert {*record.__annotations__} - {"schema"} <= spans(OPERATIONS)


def test_every_exit_code_is_described():
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", text(OPERATIONS), re.MULTILINE)}
    assert rows == {0, 1, 2, BAD_INPUT, *EXIT_CODES.values()}


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads(path):
    """Without the environment, and it changes something."""
    assert load(path) != Config()


def test_the_settings_in_the_readme_load(tmp_path):
    blocks = re.findall(r"^```yaml\n(.*?)^```", text(README), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        path = tmp_path / "streamer.yaml"
        path.write_text(block, encoding="utf-8")
        load(path)


def test_every_page_is_in_the_navigation():
    """A page that mkdocs does not list cannot be found."""
    navigation = text(ROOT / "mkdocs.yml")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if f" {page}\n" not in navigation + "\n"} == set()
