"""Trackers that ran while a session was recorded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dgrec.analyzers import describe
from dgrec.stand_in.recorded_trackers import Trackers

pytestmark = pytest.mark.slow


def attached(*analyzers: Any) -> Any:
    from degirum.postprocessor import DetectionResults
    from degirum_tools.analyzers import subclass_result_with_analyzers

    return subclass_result_with_analyzers(DetectionResults, list(analyzers))


def tracker(threshold: float = 0.3) -> Any:
    from degirum_tools import ObjectTracker

    return ObjectTracker(class_list=["face"], track_thresh=threshold, trail_depth=5)


def zones() -> Any:
    from degirum_tools import ZoneCounter

    return ZoneCounter([[[0, 0], [9, 0], [9, 9]]])


def test_an_equal_tracker_does_not_run_again() -> None:
    counter = zones()
    begun = Trackers(describe([tracker(), zones()])).of(attached(tracker(), counter))
    assert begun.names == {"degirum_tools.ObjectTracker"}
    assert begun.working._analyzers == [counter]
    restored = SimpleNamespace(
        attributes={"trails": {1: []}, "trail_classes": {}, "zone_counts": [{}], "own": 1},
        results=[{"bbox": [1, 2, 3, 4], "track_id": 1, "in_zone": [True], "frames_in_zone": [1]}],
    )
    Trackers(describe([tracker(), zones()])).remove_others(restored, begun)
    assert restored.attributes == {"trails": {1: []}, "trail_classes": {}}
    assert restored.results == [{"bbox": [1, 2, 3, 4], "track_id": 1}]


def test_a_tracker_alone_leaves_pysdks_own_class() -> None:
    from degirum.postprocessor import DetectionResults

    assert Trackers(describe([tracker()])).of(attached(tracker())).working is DetectionResults


@pytest.mark.parametrize("threshold", [0.3, 0.4])
def test_other_analyzers_run(threshold: float) -> None:
    recorded = describe([tracker(0.5)]) if threshold == 0.4 else describe([zones()])
    chosen = attached(tracker(threshold), zones())
    begun = Trackers(recorded).of(chosen)
    assert begun.working is chosen
    assert begun.names == frozenset()
