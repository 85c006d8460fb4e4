"""The bench is run by hand; here only that it would measure something."""

import pytest

from tests.bench import core, growth
from tests.bench.__main__ import line, main
from tests.bench.rows import Row


def test_the_core_is_measured_beside_the_network():
    """In tiny form: a step of few flows, once."""
    found = {row.name: row for row in core.rows(flows=128, repeats=1)}
    assert found["core_vs_network"].floor == pytest.approx(1 / 3)
    assert all(row.value > 0 for row in found.values())


def test_growth_is_measured_and_drawn(tmp_path):
    """In tiny form: every flow comes back, and each size is a point of the picture."""
    sizes = []

    class Pipe:
        def send(self, size):
            sizes.append(growth.Size(*size))

        def recv(self):
            return None

    for flows in (100, 300):
        growth.measured(Pipe(), flows, readings=300)
    assert [size.flows for size in sizes] == [100, 300]
    assert all(size.readings_per_s > 0 and size.replay_s > 0 for size in sizes)
    growth.draw(sizes, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(("value", "holds"), [(0.9, True), (0.8, False)])
def test_a_missed_floor_is_marked(value, holds):
    """At the beginning of its line."""
    row = Row("kafka_single_vs_client", value, "x", 0.85)
    assert row.holds is holds
    assert line(row).startswith(" " if holds else "!")


def test_a_bound_from_above_is_missed_from_above():
    """The bound is a maximum."""
    assert Row("bytes_per_flow", 3000, "B", 3072, at_most=True).holds
    assert not Row("bytes_per_flow", 3100, "B", 3072, at_most=True).holds


def test_an_unknown_group_is_named(capsys):
    """With those that exist."""
    assert main(["kafak"]) == 2
    assert "kafak" in capsys.readouterr().out
