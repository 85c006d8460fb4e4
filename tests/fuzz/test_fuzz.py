"""Any bytes at all; the long form is `make fuzz SECONDS=…`."""

import pytest

from tests.fuzz.__main__ import GUIDED
from tests.fuzz.mutations import mutations
from tests.fuzz.targets import TARGETS

NUMBER = {
    "readings": 600,
    "turns": 150,
    "page": 3000,
    "state": 1500,
    "weights": 600,
    "engine": 300,
    "damage": 2,
}


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_raises(name):
    """Sound input, inputs that once raised, and a few hundred mutations of them."""
    target, seeds = TARGETS[name]
    for given in mutations(seeds, NUMBER[name], seed=1):
        try:
            target(given)
        except BaseException as error:
            error.add_note(f"given {given!r}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_the_long_form_is_valid_python(name):
    """It runs as a separate program, so no other test finds a syntax error."""
    compile(GUIDED.format(name=name), name, "exec")
