"""The page on metrics lists what the program has."""

from __future__ import annotations

from tests.docs.metrics import PAGE, page


def test_the_page_is_up_to_date():
    """It is written by `python -m tests.docs.metrics`."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text)
