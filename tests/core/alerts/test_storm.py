"""A storm: many flows begin to fire in one turn."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.bench.alerts import storms

FLOWS, STORMS = 1_000, 2


@pytest.mark.slow
def test_no_alert_of_a_storm_is_lost_or_published_twice():
    """Each flow has an alert of each storm, which begins once and ends once."""
    found = storms(FLOWS, STORMS)
    began = Counter(each["flow"] for each in found.alerts if each["state"] == "firing")
    ended = Counter(each["flow"] for each in found.alerts if each["state"] == "resolved")
    assert len(began) == FLOWS
    assert set(began.values()) == set(ended.values()) == {STORMS}
    assert began == ended
    assert len({(each["id"], each["state"]) for each in found.alerts}) == 2 * FLOWS * STORMS
