"""A process is live while its loop moves, and ready once it consumes."""

from __future__ import annotations

from streamer.ops.health import Health


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_loop_that_stands_still_is_dead_and_one_that_waits_is_not():
    clock = Clock()
    health = Health(60, clock)
    clock.now = 59
    assert health.why_dead() == ""
    clock.now = 61
    assert "61 s" in health.why_dead()
    health.moved()  # it waits for a log that is away
    assert health.why_dead() == ""


def test_it_is_ready_from_the_first_turn_until_the_log_goes():
    health = Health(60, Clock())
    assert health.why_not_ready() == "starting"
    health.ready()
    assert health.why_not_ready() == ""
    health.waiting("returning")
    assert health.why_not_ready() == "returning"
    assert health.why_dead() == ""
