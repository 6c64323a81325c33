"""Damaged segments end in clear errors."""

from __future__ import annotations

import itertools
import time
from contextlib import suppress
from dataclasses import replace
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._ring import layout, ring
from stress.hostile import actor, damage, run, staging
from tests.support.hostile_settings import ALLOWED, ENGINES, few
from tests.support.queues import MakeQueue


@few
@given(st.randoms(use_true_random=False))
def test_a_damaged_segment_ends_in_clear_errors(rng: Random) -> None:
    case = damage.make_case(rng, tuple(ENGINES), tuple(actor.CALLS))
    finding = run.Trial(case, 0, "hypothesis").wait()
    assert finding is None, f"{case}\n{finding.output if finding else ''}"


def test_a_machine_that_stands_still_hangs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog counts what passes between its own looks, a little each, because a machine may be stopped."""
    looks = itertools.count()
    clock = time.monotonic  # at each of the first looks another hour has passed

    def hours_later() -> float:
        return clock() + 3600.0 * min(next(looks), 20)

    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=hours_later, sleep=time.sleep))
    case = damage.make_case(Random("still"), tuple(ENGINES), tuple(actor.CALLS))
    assert run.Trial(replace(case, program=()), 0, "still").wait() is None


def test_a_call_that_hangs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_CALL_LIMIT", 0.2)
    monkeypatch.setitem(actor.CALLS, "hang", lambda _: time.sleep(60))
    case = damage.make_case(Random("hang"), tuple(ENGINES), tuple(actor.CALLS))
    finding = run.Trial(replace(case, hits=(), size=0, program=(("hang", 0),)), 0, "hang").wait()
    assert finding is not None
    assert finding.what == "a call does not end"


@pytest.mark.costly
@pytest.mark.parametrize("base", [(1 << 62) - 4, (1 << 62) - 1, 1 << 62, 1 << 63, (1 << 64) - 1])
def test_positions_that_no_queue_reaches_do_no_harm(make_queue: MakeQueue, each_engine: str, base: int) -> None:
    q = make_queue(capacity=3)
    staging.Stage(q).place(base, 2)
    for _ in range(4):
        for call in actor.CALLS:
            if call not in {"close", "unlink", "create again"}:
                with suppress(*ALLOWED):
                    actor.CALLS[call](q)


@pytest.mark.parametrize("generation", [(1 << 48) - 1, 1 << 48, (1 << 64) - 1])
def test_generations_that_no_record_reaches_do_no_harm(
    make_queue: MakeQueue, each_engine: str, mode: str, generation: int, run_id: str
) -> None:
    q = make_queue(capacity=3, mode=mode)
    stage = staging.Stage(q)
    for index in range(1, 8):
        stage.write(layout.record_at(index) + layout.GENERATION, generation)
    with SharedMemoryQueue("q", run_id=run_id) as other:
        other.put(1)
        other.put_batch([2, 3])
        assert other.get_batch(3) == [1, 2, 3]


def test_a_get_passes_fewer_dead_puts_the_more_records_there_are(make_queue: MakeQueue) -> None:
    """Dead puts cost a scan of the records in each lap, and one attempt to get is bounded.

    A tail far ahead looks like dead puts without an end; a call that does not wait buried 1024 in three seconds.
    """
    q = make_queue(capacity=1, engine="atomics")
    stage = staging.Stage(q)
    stage.write(layout.TAIL, 1 << 60)
    for index in range(1, layout.RECORDS - 2):
        stage.participant(index, alive=True)
    with q._membership.operation() as record:
        assert q._membership.ring.try_get(record, 1, True) == ring.HELD
    assert 0 < stage.word(layout.HEAD) < 32
