"""The records of the models topic, to bytes and back."""

import pytest

from streamer.core.wire.generations import (
    INCUMBENT,
    Incumbent,
    contest_key,
    decode,
    encode,
    numbered,
    rollback_key,
    weights_key,
)


def test_an_incumbent_is_decoded_as_it_was_encoded():
    """Flat JSON; a field of a later version is ignored."""
    incumbent = Incumbent(generation=7, previous=6, since=1700000100.5, reason="promoted")
    assert decode(encode(incumbent)) == incumbent
    assert decode(encode(incumbent)[:-1] + b', "by": "night"}') == incumbent


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"null",
        b"\xff\x00",
        b'{"generation": 1}',
        b'{"generation": -1, "previous": 0, "since": 0, "reason": "promoted"}',
        b'{"generation": 1, "previous": 0, "since": 0, "reason": "bribed"}',
        b'{"generation": 1e30, "previous": 0, "since": 0, "reason": "promoted"}',
    ],
)
def test_a_value_that_is_not_an_incumbent_is_refused(junk):
    """As a ValueError, whatever it is."""
    with pytest.raises(ValueError, match=r"."):
        decode(junk)


def test_a_key_has_a_kind_and_a_number():
    """Any other key has neither."""
    assert numbered(weights_key(7)) == ("weights", 7)
    assert numbered(contest_key(12)) == ("contest", 12)
    assert numbered(rollback_key(1)) == ("rollback", 1)
    for other in (INCUMBENT, None, b"weights/0", b"weights/07", b"weights/-1", b"weights/" * 99):
        assert numbered(other) is None
