"""
Which room may import which: arrows point down only. And what a room may ask of others.

Read from the source, so that an import inside a function, or one for types
alone, counts like any other.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement  # packaging comes with pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "streamer").rglob("*.py"))

CORE = {  # within the core, from the lowest: what each package may import besides itself
    "streamer.core.types": set(),
    "streamer.core.columns": set(),
    "streamer.core.failures": {"streamer.core.types"},
    "streamer.core.wire": {"streamer.core.types"},
    "streamer.core.features": {"streamer.core.columns", "streamer.core.types"},
    "streamer.core.network": {"streamer.core.features", "streamer.core.types"},
    "streamer.core.alerts": {
        "streamer.core.columns",
        "streamer.core.features",
        "streamer.core.types",
    },
    "streamer.core.predict": {
        "streamer.core.alerts",
        "streamer.core.columns",
        "streamer.core.features",
        "streamer.core.network",
        "streamer.core.types",
    },
    "streamer.core.state": {
        "streamer.core.alerts",
        "streamer.core.columns",
        "streamer.core.failures",
        "streamer.core.features",
        "streamer.core.predict",
        "streamer.core.types",
    },
    "streamer.core.registry": {
        "streamer.core.columns",
        "streamer.core.features",
        "streamer.core.network",
        "streamer.core.predict",
        "streamer.core.state",
        "streamer.core.types",
        "streamer.core.wire",
    },
    "streamer.core": set(),
}
ARROWS = {  # of each package: what it may import besides itself
    "streamer.config.types": set(),
    "streamer.config.sources": set(),
    "streamer.text": set(),
    **{name: allowed | {"streamer.config.types"} for name, allowed in CORE.items()},
    "streamer.log": {"streamer.core.types"},
    "streamer.log.kafka": {
        "streamer.config.types",
        "streamer.core.types",
        "streamer.core.wire",
        "streamer.log",
        "streamer.ops.secrets",
    },
    "streamer.log.sqlite": {"streamer.config.types", "streamer.core.types", "streamer.log"},
    "streamer.ops": {
        "streamer.config.types",
        "streamer.core.types",
        "streamer.log",
        "streamer.text",
    },
    "streamer.notify": {
        "streamer.config.types",
        "streamer.core.alerts",
        "streamer.core.types",
        "streamer.log",
        "streamer.ops.backoff",
        "streamer.ops.secrets",
    },
    "streamer.synthetic": {"streamer.core.types"},
    "streamer.training": {"streamer.config.types", "streamer.core", "streamer.synthetic"},
    "streamer.weights": {
        "streamer.config.sources",
        "streamer.core.network",
        "streamer.core.registry",
    },
    "streamer.daemon": {
        "streamer.config",
        "streamer.core",
        "streamer.log",
        "streamer.notify",
        "streamer.ops.backoff",
        "streamer.training",
        "streamer.weights",
    },
    "streamer.config": {
        "streamer.console.settings",
        "streamer.core",
        "streamer.daemon.settings",
        "streamer.log",
        "streamer.notify.settings",
        "streamer.ops",
        "streamer.training.settings",
    },
    "streamer.console": {
        "streamer.config",
        "streamer.core.alerts.ledger",
        "streamer.core.alerts.peak",
        "streamer.core.types",
        "streamer.core.wire",
        "streamer.log",
        "streamer.ops",
        "streamer.text",
    },
    "streamer.feed": {
        "streamer.core.types",
        "streamer.core.wire",
        "streamer.log",
        "streamer.synthetic",
        "streamer.text",
    },
    "streamer.evaluation": {"streamer.core"},
    "streamer.experiments": {"streamer.core.network"},
    "streamer.plots": {
        "streamer.core.types",
        "streamer.evaluation",
        "streamer.experiments",
        "streamer.text",
    },
    "streamer.demo": {
        "streamer.config.sources",
        "streamer.core.types",
        "streamer.log",
        "streamer.text",
    },
    "streamer.cli": {"streamer"},
    "streamer.__main__": {"streamer"},
    "streamer": set(),
}
FOREIGN = {  # to the core: what knows the time, chance, threads, or the world outside
    *("kafka", "os", "random", "signal", "socket", "sqlite3", "structlog", "subprocess"),
    *("asyncio", "multiprocessing", "threading", "time", "yaml", "click", "rich"),
}
EXTRAS = {  # packages and modules that need more than a plain installation has
    "streamer.console.web": "console",
    "streamer.plots": "plot",
    "streamer.feed.parquet": "parquet",
}
DISTRIBUTIONS = metadata.packages_distributions()  # by the modules that they bring


def module_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """The dotted names that a file imports, wherever in it."""
    return named(path, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def eager_imports(path: Path) -> set[str]:
    """Those that it imports as soon as it is imported itself: in no function, and not for types."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    apart = ast.FunctionDef | ast.ClassDef | ast.If
    return named(path, (node for at in body if not isinstance(at, apart) for node in ast.walk(at)))


def named(path: Path, nodes: Iterable[ast.AST]) -> set[str]:
    """The dotted names that *nodes* import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: an import must have the whole name"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def installed_with(extra: str | None) -> frozenset[str]:
    """
    The distributions that an installation brings along, with *extra* or plain.

    What we require is read from our own file, and what those require from what is installed here.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"]]
    asked += project["optional-dependencies"][extra] if extra else ()
    left = [Requirement(each) for each in asked]
    followed: set[tuple[str, str]] = set()  # a distribution, and the extra of it that was asked for
    while left:
        needed = left.pop()
        name = canonicalize_name(needed.name)
        for of_it in {"", *needed.extras} - {of_it for at, of_it in followed if at == name}:
            followed.add((name, of_it))
            left += required_by(name, of_it)
    return frozenset(name for name, _ in followed)


@cache
def brought_by(module: str) -> frozenset[str]:
    """The distributions that a module comes with, as far as they are installed here."""
    return frozenset(map(canonicalize_name, DISTRIBUTIONS.get(module, ())))


def required_by(name: str, extra: str) -> Iterator[Requirement]:
    """What a distribution that is installed here requires on a machine like this."""
    try:
        required = metadata.requires(name) or ()
    except metadata.PackageNotFoundError:  # for another system, or another version of Python
        return
    for each in map(Requirement, required):
        if each.marker is None or each.marker.evaluate({"extra": extra}):
            yield each


def within(name: str, room: str) -> bool:
    """Whether the module *name*, or a name in it, belongs to *room*."""
    return name == room or name.startswith(f"{room}.")


def room_of(module: str) -> str:
    """The narrowest room that a module belongs to."""
    return max((room for room in ARROWS if within(module, room)), key=len)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_arrows_point_down(path):
    """A file imports from its own room and from those that its room may enter."""
    room = room_of(module_of(path))
    allowed = ARROWS[room] | ({room} if room != "streamer" else set())
    imported = {name for name in imports(path) if within(name, "streamer")}
    assert {name for name in imported if not any(within(name, way) for way in allowed)} == set()


@pytest.mark.parametrize("path", [p for p in FILES if "core" in p.parts], ids=module_of)
def test_the_core_asks_nobody(path):
    """No clock, no randomness, no thread, no log: such values are arguments."""
    assert {name for name in imports(path) if name.split(".")[0] in FOREIGN} == set()


def test_the_packages_of_the_core_are_layers():
    """Each imports only packages that stand above it in the table, so there is no cycle."""
    below: set[str] = set()
    for name, allowed in CORE.items():
        assert allowed <= below, name
        below.add(name)


COMMANDS = [p for p in FILES if p.parent.name == "cli" and not p.name.startswith("_")]


@pytest.mark.parametrize("path", COMMANDS, ids=module_of)
def test_a_command_imports_no_other(path):
    """What two commands share has a module of its own."""
    shared = ("streamer.cli.options", "streamer.cli._")
    met = {name for name in imports(path) if within(name, "streamer.cli")}
    assert {name for name in met if not name.startswith(shared)} == set()


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_is_imported_that_an_installation_lacks(path):
    """What only the tests' own installation has would be missed on the first machine without it."""
    room = next((room for room in EXTRAS if within(module_of(path), room)), None)
    foreign = (
        {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"streamer"}
    )
    there = installed_with(EXTRAS.get(room))
    assert {name for name in foreign if there.isdisjoint(brought_by(name))} == set()


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_rooms_with_an_extra_are_entered_when_they_are_needed(path):
    """A module that imports one at once cannot be imported without the extra."""
    module = module_of(path)
    assert {
        name
        for name in eager_imports(path)
        for room in EXTRAS
        if within(name, room) and not within(module, room)
    } == set()


def test_an_installation_has_what_it_requires_and_no_more():
    """Also what others require in their turn; an extra's packages only where it is asked for."""
    plain, plot = installed_with(None), installed_with("plot")
    assert {"numpy", "pyyaml", "kafka-python", "crc32c", "sympy"} <= plain
    assert plain.isdisjoint({"orjson", "matplotlib", "pytest"})
    assert plot - plain >= {"matplotlib", "pillow"}


def test_every_room_has_a_file():
    """A rule about a package that does not exist would hold for nothing."""
    modules = {module_of(path) for path in FILES}
    assert {room for room in ARROWS if not any(within(m, room) for m in modules)} == set()


def test_an_import_is_seen_wherever_it_hides(tmp_path):
    """In a function, under a condition, for types only."""
    path = tmp_path / "sly.py"
    path.write_text(
        "if TYPE_CHECKING:\n    import streamer.log\ndef f():\n    from time import sleep\n"
        "try:\n    import orjson\nfinally:\n    pass\n"
    )
    assert imports(path) == {"streamer.log", "time.sleep", "orjson"}
    assert eager_imports(path) == {"orjson"}
