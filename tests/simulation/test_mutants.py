"""Planted bugs: each has its place in the source, and a sample of them is found."""

import hashlib
from random import Random

import pytest

from tests.simulation.mutants import MUTANTS, NONE, ROOT, SEEDS, caught_by

SAMPLE = 3  # of the table; `python -m tests.simulation.mutants` runs all of it


def drawn():
    """A sample that differs from one state of the source to the next, and is repeatable."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "streamer").rglob("*.py")):
        digest.update(path.read_bytes())
    return Random(digest.hexdigest()).sample(MUTANTS, SAMPLE)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_place(mutant):
    """Once, in the file that it is of; and what is put there is still Python."""
    source = (ROOT / "streamer" / mutant.file).read_text()
    assert source.count(mutant.old) == 1
    compile(source.replace(mutant.old, mutant.new), mutant.file, "exec")


def test_no_mutant_is_planted_twice():
    """Their names differ."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [*drawn(), NONE], ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant):
    """And find nothing without one: the copy runs as the original does, which other tests hold."""
    worlds, _ = caught_by(mutant, seeds=4 if mutant is NONE else SEEDS)
    assert (worlds is None) == (mutant is NONE)
