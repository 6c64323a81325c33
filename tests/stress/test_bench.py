"""The benchmark: it measures, it notices a queue that damages items, and it says whether the goals are met."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from shared_multiprocess_queue._engine import choice
from stress.bench import host, report
from stress.bench.channel import Channel, End, Peer, Size
from stress.bench.peers import find, standard
from stress.bench.run import Results
from stress.bench.scenarios import ALL, MAIN

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pins processes to processors, by fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


SECONDS = 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", [scenario.name for scenario in MAIN if scenario.kind != "cpu"])
@pytest.mark.parametrize("peer", ["native", "native spsc", "atomics", "multiprocessing.Queue"])
def test_every_scenario_gives_figures_for_whom_it_fits(peer: str, name: str) -> None:
    if "native" in peer and not choice.has_native():
        pytest.skip("the native engine is not built here")
    scenario, measured = ALL[name], find(peer)
    if "frame" in name:
        pytest.importorskip("pandas")
    if not scenario.fits(measured):
        is_for_others = scenario.producers > 1 if peer == "native spsc" else scenario.batch > 1 or scenario.only
        assert is_for_others, "mode spsc has one producer, the standard library no batches; all else they can do"
        return
    figures = host.measure(measured, scenario, SECONDS)
    assert figures
    assert all(value > 0 for value in figures.values())


class Spoiling:
    """A queue that gives something else than what was put."""

    def __init__(self, inner: Channel) -> None:
        self.sender, self.remove = inner.sender, inner.remove
        self._inner = inner

    def receiver(self, number: int) -> End:
        end = self._inner.receiver(number)
        real: Callable[[], Any] = end.get
        end.get = lambda: bytes(reversed(real()))
        return end


@pytest.mark.slow
def test_a_queue_that_damages_items_has_no_figure() -> None:
    def make(name: str, size: Size) -> Channel:
        return Spoiling(standard.PEERS[0].make(name, size))

    with pytest.raises(host.DamagedError, match="nobody has put"):
        host.measure(Peer("spoiling", make, "parks", "multiprocessing"), ALL["64 B"], SECONDS)


def results(ours: list[float], theirs: list[float]) -> Results:
    figures = {"64 B": {"native": {"rate": ours}, "a peer": {"rate": theirs}, "a slow peer": {"rate": [1.0, 1.0, 1.0]}}}
    return Results(machine={}, units={"64 B": "items/s"}, figures=figures)


@pytest.mark.parametrize(("ours", "met"), [([250.0, 260.0, 900.0], True), ([240.0, 240.0, 900.0], False)])
def test_a_goal_is_met_by_the_median_of_ratios(ours: list[float], met: bool) -> None:
    """Each ratio is that of one repeat to the fastest peer in it."""
    (goal,) = report.goals(results(ours, [100.0, 100.0, 100.0]))
    assert goal.against == "a peer"
    assert list(goal.ratios) == [value / 100 for value in ours]
    assert goal.met is met


@pytest.mark.parametrize(("p90", "met"), [([2.0, 2.9, 90.0], True), ([3.1, 3.1, 1.0], False)])
def test_polling_is_judged_by_p90_beside_p50_in_each_mode(p90: list[float], met: bool) -> None:
    name, ones = "round trip, polling", [1.0, 1.0, 1.0]
    figures = {name: {"native": {"p50": ones, "p90": p90}, "native spsc": {"p50": ones, "p90": ones}}}
    found = {goal.what: goal for goal in report.goals(Results(units={name: "µs"}, figures=figures))}
    assert list(found) == [f"{name}, native: p90, p50", f"{name}, native spsc: p90, p50"]
    assert list(found[f"{name}, native: p90, p50"].ratios) == p90
    assert found[f"{name}, native: p90, p50"].met is met
    assert found[f"{name}, native spsc: p90, p50"].met
