"""Any bytes at all; the long form is `make fuzz SECONDS=…`."""

import pytest

from tests.fuzz.__main__ import GUIDED
from tests.fuzz.mutations import mutations
from tests.fuzz.targets import TARGETS

NUMBER = {
    "readings": 1500,
    "turns": 150,
    "page": 3000,
    "state": 1500,
    "weights": 600,
    "engine": 300,
    "damage": 2,
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_the_world_sends_breaks_anything(name):
    """Sound input, what once broke something, and a few hundred of their offspring."""
    target, seeds = TARGETS[name]
    for given in mutations(seeds, NUMBER[name], seed=1):
        try:
            target(given)
        except BaseException as error:
            error.add_note(f"given {given!r}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_what_guides_the_long_form_is_sound(name):
    """It runs as a separate program, so no other test finds a syntax error."""
    compile(GUIDED.format(name=name), name, "exec")
