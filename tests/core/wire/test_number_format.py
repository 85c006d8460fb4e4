"""Numbers to their text, and back to six digits of a row's largest."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.core.wire.number_format import TINY, cells, listed, squeezed


def texts(values):
    return [
        row.replace(b"\0", b"") for row in listed(cells(np.asarray(values, np.float32))).tolist()
    ]


def read_back(values):
    return [json.loads(b"[" + row + b"]") for row in texts(values)]


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 4)),
        elements=st.floats(0, float(np.finfo(np.float32).max), width=32),
    )
)
def test_any_number_is_read_back_to_six_digits_of_the_largest(values):
    """Whatever its size, and whatever stands in other rows; to five where that is 0.1 to 1."""
    for row, parsed in zip(values.astype(float), read_back(values), strict=True):
        size = 1.0 if 0.1 <= row.max() < 1 else row.max()
        assert parsed == pytest.approx(row.tolist(), rel=0, abs=max(5.1e-6 * size, TINY))


def test_a_number_below_one_has_five_digits():
    """A sixth would have made all of them longer."""
    assert read_back(np.array([[0.328125]], np.float32)) == [[0.32812]]


@pytest.mark.parametrize("power", range(-29, 38))
def test_no_digit_is_gained_at_a_power_of_ten(power):
    """Just below, at and just above it, where rounding may carry."""
    exact = np.float32(10.0**power)
    around = [np.nextafter(exact, np.float32(0)), exact, np.nextafter(exact, np.float32(np.inf))]
    for (parsed,) in read_back(np.array(around)[:, None]):
        assert parsed == pytest.approx(float(exact), rel=1e-5 if power > -2 else 5e-4)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ([0, 0], b"0,0"),
        ([TINY / 10], b"0"),
        ([0.5, 0.25], b"0.50000,0.25000"),
        ([123.4, 7], b"123.400,7.000"),
        ([99999.96, 1], b"100000,1"),
        ([1.25e10, 5e5], b"12500000000,500000"),
        ([3e15, 0], b"300000e10,0e10"),
        ([3e8, 0], b"300000000,0.000"),
        ([0.05], b"5.00000e-2"),
        ([-1, 1], b"0.00000,1.00000"),
        ([np.nan, 12.5, np.inf], b"null,12.5000,null"),
    ],
)
def test_numbers_look_as_a_reader_expects(row, text):
    """Plain where they are of a usual size."""
    assert texts([row]) == [text]


def test_a_row_is_written_alike_beside_any_other():
    """Cells are wider if another row needs it, with the same digits."""
    rows = np.array([[1.5, 2.5], [1e12, 2], [1e-5, 0]], np.float32)
    assert texts(rows) == [texts(row[None])[0] for row in rows]


def test_filling_is_taken_out():
    """And nothing else is."""
    lines = np.array([b"a\0b", b"\0cd"], "S3").view(np.uint8).reshape(2, 3)
    assert squeezed(lines) == b"abcd"
