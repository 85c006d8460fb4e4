"""The table of planted bugs is run by hand; here only that each would still be planted."""

import pytest

from tests.simulation.mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_place(mutant):
    """Once, in the file that it is of; and what is put there is still Python."""
    source = (ROOT / "streamer" / mutant.file).read_text()
    assert source.count(mutant.old) == 1
    compile(source.replace(mutant.old, mutant.new), mutant.file, "exec")


def test_no_mutant_is_planted_twice():
    """Their names tell them apart."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
