"""Classes of flows by their rows: one row made for each class."""

import numpy as np
import pytest

from streamer.core.features import baselines
from streamer.core.network.config import ModelConfig
from streamer.core.predict import flow_classes, forecast
from streamer.core.predict.forecast import ForecastSpec

SEASONAL = baselines.NAMES.index("weekly")


@pytest.fixture
def rows():
    """Four rows: silent, with a rhythm, with bursts, and none of these; each of another mean."""
    rows = np.zeros(4, np.dtype(forecast.columns(ModelConfig(), ForecastSpec(300))))
    rows["mean"] = 0.5, 3e4, 1e8, 1e20
    rows["errors"] = np.array([0.2, 0.2, 0.6, 0.2])[:, None, None]
    rows["errors"][1, -1, SEASONAL] = 0.1
    rows["rank_shares"][2, -1] = 2.0
    rows["silent_share"] = 0.9, 0.1, 0.1, 0.1
    return rows


def test_contests_have_one_class_per_flow(rows):
    """All four classes occur, and silence is tested first."""
    found = flow_classes.contest_classes(rows)
    assert found == ["mostly zero", "rhythm", "bursts", "level"]
    assert set(found) == set(flow_classes.CLASSES)
    rows["silent_share"] = 0.9
    assert set(flow_classes.contest_classes(rows)) == {"mostly zero"}


def test_scores_have_one_class_per_flow_and_classification(rows):
    """Its index is valid in the names of the classification."""
    found = {}
    for names, codes in flow_classes.score_classes(rows, "lstm"):
        found[names[0]] = [names[code] for code in codes.tolist()]
    assert found["rhythm/none"] == ["rhythm/none", "rhythm/regular", "rhythm/none", "rhythm/none"]
    assert found["bursts/few"] == ["bursts/silence", "bursts/few", "bursts/many", "bursts/few"]
    assert found["level/1e0"] == ["level/1e0", "level/1e4", "level/1e8", "level/1e12"]
    assert found["all"] == ["all"] * 4


def test_scores_and_contests_agree_on_silence_and_rhythm(rows):
    """By the same thresholds, also at their edges."""
    edge = np.float32(0.2) * np.float32(flow_classes.REGULAR)
    rows["silent_share"] = 0.0
    rows["errors"] = np.float32(0.2)
    rows["errors"][:, -1, SEASONAL] = edge * np.array([0.99, 1.0, 1.01, 1.1], np.float32)
    contests = [each == "rhythm" for each in flow_classes.contest_classes(rows)]
    assert contests == flow_classes.regular(rows).tolist()
    assert contests[0]
    assert not contests[-1]
