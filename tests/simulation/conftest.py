"""Seeds: some dozens in every run, any number or a single one when asked for."""

import json

import pytest


@pytest.fixture(scope="session")
def alike(pytestconfig):
    """What all worlds have in common: fields of `Shape` and `Faults` by name."""
    named = (each.partition("=") for each in pytestconfig.getoption("--world"))
    return {name: json.loads(value) for name, _, value in named}


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        one, number = metafunc.config.getoption("seed"), metafunc.config.getoption("seeds")
        seeds = range(number) if one is None else [one]
        metafunc.parametrize("seed", seeds, scope="module")  # a world serves all its tests
