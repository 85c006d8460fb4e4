"""Delays double up to their bound, and start again after a success."""

from streamer.ops.backoff import Backoff


def test_delays_double_up_to_the_bound():
    backoff = Backoff(0.5, 3.0)
    assert [backoff.take() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_success_begins_with_the_first_delay_again():
    backoff = Backoff(1.0, 60.0)
    backoff.take(), backoff.take()
    backoff.reset()
    assert (backoff.delay_s, backoff.take(), backoff.take()) == (1.0, 1.0, 2.0)
