"""The objective of the 90 % band: logged once when it is missed and once when it is met again."""

from unittest.mock import Mock

from streamer.core.types import Score
from streamer.ops.coverage_slo import CoverageSLO, ObjectiveConfig

CONFIG = ObjectiveConfig(periods=2, forecasts_min=500)


def score(period, covered, forecasts=1000, of="all", horizon=1):
    return Score(
        ends_at=3600 * period,
        period_s=3600,
        generation=1,
        of=of,
        horizon=horizon,
        flows=10,
        forecasts=forecasts,
        covered=covered,
        rate=1e6,
        error_rate=1e5,
        error=0.1 * forecasts,
        quantile_loss=0.08 * forecasts,
        width=0.5 * forecasts,
        missed=0.2 * forecasts,
        missed_by={"last": 0.25 * forecasts, "ewma_14": 0.5 * forecasts},
    )


def observe(*turns):
    """The events that are logged for *turns*, and the objective after them."""
    lines, logger = [], Mock()
    logger.warning = lambda event, **fields: lines.append(("warning", event, fields["coverage"]))
    logger.info = lambda event, **fields: lines.append(("info", event, fields["coverage"]))
    objective = CoverageSLO(CONFIG, logger)
    for turn in turns:
        objective.observe(turn)
    return lines, objective


def test_a_missed_objective_is_logged_once():
    """And once when it holds again; a bound just met is no return."""
    lines, _ = observe(
        *([score(1, 900)], [score(2, 900)], [score(3, 800)], [score(4, 800)], []),
        *([score(5, 961)], [score(6, 900)], [score(7, 900)]),
    )
    assert lines == [
        ("warning", "coverage.out_of_range", 0.85),
        ("info", "coverage.in_range", 0.9305 if False else 0.9),
    ]


def test_a_band_that_is_too_wide_has_left_too():
    """A promise of nine tenths is broken by more, as well."""
    lines, _ = observe([score(1, 950)])
    assert lines == [("warning", "coverage.out_of_range", 0.95)]


def test_too_few_forecasts_decide_nothing():
    """Neither a young group nor a quiet hour raises an alarm."""
    lines, _ = observe([score(1, 10, forecasts=20)])
    assert lines == []


def test_only_all_flows_count_and_every_horizon_does():
    """Classes are parts of all: they would be counted twice."""
    lines, objective = observe(
        [score(1, 900), score(1, 860, horizon=4), score(1, 0, of="rhythm/none")]
    )
    assert lines == []
    assert objective.levels == {"coverage": 0.88, "error": 0.1, "skill": 0.2}


def test_old_periods_do_not_count():
    """By event time, in whatever order they come."""
    _, objective = observe([score(1, 0)], [score(3, 900)], [score(2, 900)], [score(1, 0)])
    assert objective.levels["coverage"] == 0.9
