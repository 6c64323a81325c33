"""What changes between two looks: rates, counters that never go down, blockers that are seen for a time."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from shared_multiprocess_queue import QueueBlocker, QueueFile, inspect
from shared_multiprocess_queue._platform import clock
from shared_multiprocess_queue.looking.rates import Changes
from tests.support.queues import MakeQueue

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files")


class Time:
    """A clock that is set by hand, in seconds."""

    now = 100.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> type[Time]:
    monkeypatch.setattr(clock, "now", lambda: int(Time.now * 1e9))
    return Time


def changed(queue: QueueFile, **values: object) -> QueueFile:
    assert queue.look is not None
    return replace(queue, look=replace(queue.look, **values))  # type: ignore[arg-type]


def test_rates_are_over_the_true_time(make_queue: MakeQueue, run_id: str, time: type[Time]) -> None:
    q = make_queue(capacity=10)
    changes = Changes()
    first = changes.note([inspect("q", run_id)])[f"{run_id}-q"]
    assert (first.seconds, first.rates) == (0, {})
    for _ in range(6):
        q.put(1)
        q.get()
    time.now += 2
    second = changes.note([inspect("q", run_id)])[f"{run_id}-q"]
    assert (second.seconds, second.rates["put_total"], second.rates["got_total"]) == (2, 3, 3)
    assert second.totals["put_total"] == 6


def test_counters_never_go_down(make_queue: MakeQueue, run_id: str, time: type[Time]) -> None:
    make_queue()
    queue, changes = inspect("q", run_id), Changes()
    for total, expected in ((5, 5), (4, 5), (6, 6)):
        time.now += 1
        (change,) = changes.note([changed(queue, got_total=total)]).values()
        assert change.totals["got_total"] == expected
        assert not change.rates or change.rates["got_total"] >= 0


def test_a_queue_in_the_place_of_another_begins_anew(make_queue: MakeQueue, run_id: str, time: type[Time]) -> None:
    q, changes = make_queue(), Changes()
    q.put(1)
    changes.note([inspect("q", run_id)])
    q.close()
    q.unlink()
    make_queue()
    time.now += 1
    (change,) = changes.note([inspect("q", run_id)]).values()
    assert (change.seconds, change.totals["put_total"]) == (0, 0)


def test_the_longest_blocker_is_told(make_queue: MakeQueue, run_id: str, time: type[Time]) -> None:
    make_queue()
    queue, changes = inspect("q", run_id), Changes()
    old, new, batch = QueueBlocker(1, 5, "put"), QueueBlocker(2, 3, "get"), QueueBlocker(3, 9, "put_batch")

    def blocked(*blockers: QueueBlocker) -> tuple[QueueBlocker, float] | None:
        (change,) = changes.note([changed(queue, blocked_by=blockers)]).values()
        time.now += 1.5
        return change.blocked

    assert blocked() is None
    assert blocked(old) == (old, 0)
    assert blocked(new, old) == (old, 1.5)
    assert blocked(new) == (new, 1.5)
    assert blocked(batch) == (QueueBlocker(3, 0, "put_batch"), 0)
    assert blocked(replace(batch, position=10)) == (
        QueueBlocker(3, 0, "put_batch"),
        1.5,
    ), "tail moves on while the lock is held"
