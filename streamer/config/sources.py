"""
Where settings come from: a file, the environment, the command line.

The three are layers of one tree of plain values; a later one lies over an
earlier. Which layer a value came from is kept, so that an error can name
where to mend it. What the values mean is no matter of this file.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

BYTES_MAX = 1 << 20  # of a file
PREFIX = "STREAMER__"  # of variables in the environment: STREAMER__INPUT__KIND=delta

Keys: TypeAlias = tuple[str, ...]  # the way to a value: ("input", "kind")
Tree: TypeAlias = dict[str, Any]


class ConfigError(Exception):
    """The configuration can't be used as it is; the message begins with the key's path."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value given outside the file."""

    keys: Keys
    value: object
    source: str  # as the user would look for it: `--set`, `STREAMER__STEP`


def read(path: Path) -> Tree:
    """
    The tree in the YAML file *path*; an empty file is an empty tree.

    Raises ConfigError if it can't be read, is not YAML, or has a key twice.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}: is no regular file")
            text = file.read(BYTES_MAX + 1)
        if len(text) > BYTES_MAX:
            raise ConfigError(f"{path}: is longer than {BYTES_MAX:,} bytes")
        tree = parse(text.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_plainly(error)}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must be keys and values, is {type(tree).__name__}")
    return tree


def from_environ(environ: Mapping[str, str]) -> Iterator[Setting]:
    """The settings among the variables of *environ*, in the order of their names."""
    for name in sorted(environ):
        if name.startswith(PREFIX):
            keys = tuple(name.removeprefix(PREFIX).lower().split("__"))
            yield _setting(keys, environ[name], source=name)


def from_overrides(overrides: Iterable[str]) -> Iterator[Setting]:
    """The settings in `path=value` arguments, in their order."""
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"{override}: must be path=value, as in --set input.kind=delta")
        yield _setting(tuple(path.strip().split(".")), text, source="--set")


def lay(tree: Tree, setting: Setting) -> None:
    """Put *setting* over what *tree* has at its place; mappings are merged."""
    path = ".".join(setting.keys)
    if not all(setting.keys):
        raise ConfigError(f"{path}: is no path of a key ({setting.source})")
    place = tree
    for key in setting.keys[:-1]:
        below = place.get(key)
        if below is None:
            below = place[key] = {}
        if not isinstance(below, dict):
            raise ConfigError(f"{path}: {key} has no keys below it ({setting.source})")
        place = below
    _merge(place, {setting.keys[-1]: setting.value})


def not_finite(tree: object, keys: Keys = ()) -> Iterator[tuple[Keys, float]]:
    """The numbers in *tree* that are infinite or not a number, with the paths of their keys."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from not_finite(value, (*keys, str(key)))
    elif isinstance(tree, list):
        for n, value in enumerate(tree):
            yield from not_finite(value, (*keys, str(n)))
    elif isinstance(tree, float) and not math.isfinite(tree):
        yield keys, tree


def parse(text: str) -> Any:  # noqa: ANN401 - a tree of plain values, whatever its root
    """One YAML document as plain values; raises yaml.YAMLError."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader by birth
    except RecursionError:
        raise yaml.YAMLError("is nested too deeply") from None
    except ValueError as error:  # of Python's own conversions: a date, an integer of many digits
        if isinstance(error, UnicodeError):
            raise
        raise yaml.YAMLError(f"holds no value that can be used: {error}") from None


def render(tree: Tree) -> str:
    """*tree* as YAML that `parse` takes back, its keys in their order."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _merge(place: Tree, news: Tree) -> None:
    for key, value in news.items():
        old = place.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            place[key] = value


def _setting(keys: Keys, text: str, source: str) -> Setting:
    try:
        return Setting(keys, parse(text), source)
    except yaml.YAMLError as error:
        raise ConfigError(f"{'.'.join(keys)}: {_plainly(error)} ({source})") from error


def _plainly(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


class _Loader(yaml.SafeLoader):
    """
    SafeLoader less three of its surprises.

    YAML 1.1 takes 1e12 for text and 1:30 for 90, and PyYAML lets the last of two
    equal keys win in silence.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's own signature
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    problem=f"a key must be text, is {key!r}", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key} is set twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that writes lists on one line and round numbers as people do."""


def _represent_list(dumper: yaml.SafeDumper, items: list[object]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


def _represent_float(dumper: yaml.SafeDumper, number: float) -> yaml.Node:
    short = f"{number:g}".replace("e+", "e")
    exact = float(short) == number
    return dumper.represent_scalar("tag:yaml.org,2002:float", short if exact else repr(number))


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    """An integer or a number; 1:30 stays text."""
    if ":" in node.value:
        return loader.construct_scalar(node)
    integer = node.tag.endswith(":int")
    return loader.construct_yaml_int(node) if integer else loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(float, _represent_float)
for _dialect in (_Loader, _Dumper):
    _dialect.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def _without_waiting(path: str, flags: int) -> int:
    """For `open`: a pipe without a writer must not block."""
    return os.open(path, flags | os.O_NONBLOCK)
