"""How much a turn does follows from the turns before."""

import pytest

from streamer.config.types import Duration
from streamer.daemon import pacing
from streamer.daemon.pacing import Pacing
from streamer.daemon.settings import GenerationConfig, StateConfig, TurnConfig


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Pages:
    """A rollout of *stale* pages, each of which takes *page_s*."""

    def __init__(self, clock, stale, page_s):
        self.clock, self.stale, self.page_s = clock, stale, page_s

    def stale_pages(self):
        return self.stale

    def advance(self, pages):
        self.stale -= pages
        self.clock.now += pages * self.page_s


def paced(clock, **settings):
    return Pacing(
        TurnConfig(records_max=1000, readings_max=400),
        StateConfig(interval=Duration(60)),
        GenerationConfig(**settings),
        clock,
    )


def test_a_dense_record_keeps_the_next_polls_small_for_a_while():
    made = paced(Clock())
    made.end(records=4, readings=400)
    found = []
    for _ in range(8):
        found.append(made.records_max(None))
        made.end(records=100, readings=100)
    assert found == [4, 8, 16, 32, 64, 128, 256, 400]


def test_the_search_for_a_failing_record_limits_the_poll():
    made = paced(Clock())
    made.end(records=400, readings=400)
    assert made.records_max(3) == 3


def test_all_pages_are_due_once_an_interval():
    clock = Clock()
    made, shares = paced(clock), []
    for _ in range(6):
        clock.now += 10
        made.begin()
        shares.append(made.checkpoint_share(1000))
    assert sum(shares) == pytest.approx(1)


def test_after_a_pause_a_turn_saves_a_bounded_number_of_rows():
    clock = Clock()
    made = paced(clock)
    clock.now += 86400
    made.begin()
    assert made.checkpoint_share(10**6) * 10**6 == pytest.approx(pacing.ROWS_A_TURN)


@pytest.mark.parametrize("page_s", [0.001, 0.05, 0.4])
def test_a_rollout_takes_its_share_of_the_time(page_s):
    clock = Clock()
    made, pages = paced(clock, rollout_time_share=0.2), Pages(clock, 10_000, page_s)
    for _ in range(400):
        clock.now += 1
        made.begin()
        made.roll_out(pages)
    spent_s = (10_000 - pages.stale) * page_s
    assert 0.14 * clock.now < spent_s < 0.21 * clock.now or pages.stale == 0


def test_a_long_turn_saves_up_no_more_than_a_second_of_rollout():
    clock = Clock()
    made, pages = paced(clock, rollout_time_share=1), Pages(clock, 10_000, pacing.PAGE_S)
    clock.now += 3600
    made.begin()
    assert made.roll_out(pages) == pages.stale == 10_000 - int(1 / pacing.PAGE_S)
