"""max_deliveries and dead_letters: items that come back too often."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress

import pytest

from shared_multiprocess_queue import (
    DeadLetter,
    DeadLetterGoneError,
    Empty,
    QueueMismatchError,
    SharedMemoryQueue,
    ShutDown,
)
from shared_multiprocess_queue._platform.atomic_words import Words
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.dead_letters import DeadLetters
from stress.hostile import staging
from tests.support.children import in_child
from tests.support.queues import MakeQueue, let_look

forks = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def bury(q: SharedMemoryQueue, *items: object) -> None:
    """Make dead letters of items, on a queue that allows one delivery."""
    for item in items:
        q.put(item)
        q.lease(block=False).release()


def items_of(q: SharedMemoryQueue) -> list[object]:
    return [letter.item for letter in q.dead_letters()]


def fails(q: SharedMemoryQueue, times: int) -> list[int]:
    """Let the processing of the next item fail; return the deliveries that were told."""
    told = []
    for _ in range(times):
        with suppress(ZeroDivisionError), q.lease(block=False) as lease:
            told.append(lease.deliveries)
            raise ZeroDivisionError
    return told


# ---- items that fail ------------------------------------------------------------------------------------------------


def test_an_item_that_always_fails_becomes_a_dead_letter(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=3)
    q.put("bad")
    assert fails(q, 3) == [1, 2, 3]
    with pytest.raises(Empty):
        q.lease(block=False)
    (letter,) = q.dead_letters()
    assert (letter.item, letter.deliveries) == ("bad", 3)
    assert "position 0, 3 deliveries" in repr(letter)
    assert (q.qsize(), q.empty(), q.join(0)) == (0, True, True)
    assert repr(q).endswith("0/4 items, 0/2 leased, 1 dead>")


@pytest.mark.parametrize("end", [lambda lease: lease.release(delay=30), lambda lease: lease.release(last=True)])
def test_however_it_comes_back(make_leased: MakeQueue, end: Callable[[object], None]) -> None:
    q = make_leased(max_deliveries=1)
    q.put("bad")
    end(q.lease())
    assert items_of(q) == ["bad"]


def test_what_is_done_in_time_is_none(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=2)
    q.put("good")
    assert fails(q, 1) == [1]
    q.lease(block=False).done()
    assert q.dead_letters() == []
    assert q.join(0)


def test_a_dead_letter_takes_up_no_lease(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad", "worse")
    q.put_batch([1, 2])
    assert q.get_batch(2) == [1, 2]
    q.task_done()
    q.task_done()
    assert items_of(q) == ["bad", "worse"]


@forks
def test_an_item_that_kills_its_workers_becomes_a_dead_letter(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=2)
    q.put("killer")

    def work() -> None:
        with q.lease(timeout=60):
            os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(2):
        assert in_child(work) == -signal.SIGKILL
    with pytest.raises(Empty):
        q.lease(timeout=0.5)
    assert [(letter.item, letter.deliveries) for letter in q.dead_letters()] == [("killer", 2)]
    assert q.join(0)


@forks
def test_items_of_the_dead_are_buried_while_a_get_waits(make_leased: MakeQueue) -> None:
    """More than one look takes."""
    number = 40
    q = make_leased(leases=number, capacity=number, max_deliveries=1)
    q.put_batch(range(number))

    def work() -> None:
        q.lease_batch(number)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    with pytest.raises(Empty):
        q.get(timeout=1.0)
    assert items_of(q) == list(range(number))
    q.put("next")
    assert q.get(block=False) == "next"
    assert q.get_metrics()["dead_letters_total"] == number


def test_a_thread_that_ends_and_a_handle_that_closes_give_back(make_leased: MakeQueue, run_id: str) -> None:
    q = make_leased(max_deliveries=1)
    q.put_batch(["of a thread", "of a handle"])
    thread = threading.Thread(target=q.get)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        thread.start()
        thread.join(60)
        while not q.dead_letters():
            time.sleep(0.001)
    other = SharedMemoryQueue("q", run_id=run_id)
    other.get()
    other.close()
    assert items_of(q) == ["of a thread", "of a handle"]


def test_an_item_that_an_interrupted_get_had_is_not_buried_undelivered(make_leased: MakeQueue, run_id: str) -> None:
    q = make_leased(max_deliveries=1)
    q.put_batch([1, 2])
    other = SharedMemoryQueue("q", run_id=run_id, engine="atomics")

    def interrupt(_: object) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        other._calls.lease(1, False, None, interrupt)  # type: ignore[attr-defined]
    other.close()
    assert q.dead_letters() == []
    assert q.get(block=False) == 1


# ---- when there is no room ------------------------------------------------------------------------------------------


def test_when_there_is_no_room_the_oldest_stay_and_the_queue_goes_on(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "first", "second")
    q.put_batch(["third", "next"])
    q.lease(block=False).release()
    assert items_of(q) == ["first", "second"]
    assert q.get_metrics()["dead_letters_refused"] == 1
    assert q.get(block=False) == "next"
    q.task_done()
    with q.lease(block=False) as lease:
        assert (lease.item, lease.deliveries) == ("third", 2)
    q.dead_letters()[0].done()
    bury(q, "fourth")
    assert items_of(q) == ["second", "fourth"]


@forks
def test_without_room_an_item_of_the_dead_goes_behind_all_others(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "first", "second")
    q.put_batch(["killer", "next"])

    def work() -> None:
        with q.lease():
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    let_look(q)
    assert [q.get(timeout=1), q.get(timeout=1)] == ["next", "killer"]
    assert q.get_metrics()["dead_letters_refused"] == 1


# ---- letters --------------------------------------------------------------------------------------------------------


def test_to_look_changes_nothing(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    before = bytes(q._membership.segment.buffer[layout.SLOTS_START : q._geometry.definitions])
    assert items_of(q) == items_of(q) == ["bad"]
    q.get_metrics()
    assert bytes(q._membership.segment.buffer[layout.SLOTS_START : q._geometry.definitions]) == before


def test_of_several_that_end_a_letter_one_succeeds(make_leased: MakeQueue, run_id: str) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    with SharedMemoryQueue("q", run_id=run_id) as other:
        (mine,), (theirs,) = q.dead_letters(), other.dead_letters()
        theirs.done()
        for end in (mine.done, mine.put_back, theirs.done):
            with pytest.raises(DeadLetterGoneError, match="position 0 is gone"):
                end()
    assert q.dead_letters() == []
    assert q.empty()


def test_a_letter_is_not_that_of_the_next_item_in_its_place(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1, leases=1)
    bury(q, "old")
    (old,) = q.dead_letters()
    old.done()
    bury(q, "new")
    with pytest.raises(DeadLetterGoneError):
        old.done()
    assert items_of(q) == ["new"]


def test_what_is_put_back_is_a_fresh_item(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=2)
    q.put("bad")
    fails(q, 2)
    q.put("next")
    q.dead_letters()[0].put_back()
    assert (q.qsize(), q.empty(), q.dead_letters(), q.join(0)) == (2, False, [], False)
    assert fails(q, 1) == [1]
    assert q.get(block=False) == "next"
    q.task_done()
    with q.lease(block=False) as lease:
        assert (lease.item, lease.deliveries) == ("bad", 2)
    assert q.get_metrics()["redelivered"] == 2


def test_a_put_back_letter_waits_for_a_lease(make_leased: MakeQueue) -> None:
    """The number of leases stays the limit, and the end of a lease wakes the get that waits for it."""
    q = make_leased(max_deliveries=1)
    bury(q, "bad", "worse")
    q.put_batch([1, 2])
    one, two = q.lease_batch(2)
    for letter in q.dead_letters():
        letter.put_back()
    with pytest.raises(Empty):
        q.lease(block=False)
    assert len(q.get_metrics()["leased"]) == 2
    assert not q.join(0)
    found: list[object] = []

    def work() -> None:
        found.append(q.get())
        q.task_done()

    thread = threading.Thread(target=work)
    thread.start()
    one.done()
    thread.join(60)
    assert found == ["bad"]
    two.done()


def test_a_join_waits_for_what_was_put_back(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    assert q.join(0)
    q.dead_letters()[0].put_back()
    assert not q.join(0)
    with q.lease(block=False):
        assert not q.join(0)
    assert q.join(0)


def test_what_a_user_has_ended_does_not_come_back(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad", "worse")
    back, dropped = q.dead_letters()
    back.put_back()
    dropped.done()
    q.lease(block=False).done()
    with pytest.raises(Empty):
        q.lease(timeout=0.3)
    assert (q.dead_letters(), q.join(0)) == ([], True)


def test_a_letter_is_put_back_only_while_the_queue_takes_items(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad", "worse")
    first, second = q.dead_letters()
    first.put_back()
    q.shutdown()
    with pytest.raises(ShutDown):
        second.put_back()
    assert list(q) == ["bad"]
    q.task_done()
    with pytest.raises(ShutDown):
        q.get(block=False)
    assert items_of(q) == ["worse"]


def test_the_end_is_not_said_while_an_item_waits_for_a_lease(make_leased: MakeQueue, run_id: str) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    q.put_batch([1, 2])
    with SharedMemoryQueue("q", run_id=run_id) as other:
        one, two = other.lease_batch(2)
        q.dead_letters()[0].put_back()
        q.shutdown()
        # The handles are one process, which has items, and so does not wait for those of others.
        with pytest.raises(ShutDown):
            q.get(block=False)
        one.done()
        assert q.get(block=False) == "bad"
        two.done()
    q.task_done()
    assert q.join(0)


def test_an_immediate_shutdown_drops_what_was_put_back(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad", "worse")
    q.dead_letters()[0].put_back()
    q.shutdown(immediate=True)
    with pytest.raises(ShutDown):
        q.get(block=False)
    assert (q.qsize(), q.join(0), items_of(q)) == (0, True, ["worse"])


def test_an_offer_that_was_cut_is_decided_by_the_next_get(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad", "worse")
    stage = staging.Stage(q)
    at = q._geometry.dead_heads

    def offer(index: int) -> None:
        word = at + index * layout.DEAD_HEAD_SIZE + layout.DEAD_WORD
        stage.write(word, layout.next_dead_word(stage.word(word), layout.DEAD_OFFERED))

    offer(0)
    assert (q.qsize(), q.join(0)) == (1, False)
    assert q.get(block=False) == "bad"
    q.task_done()
    offer(1)
    q.shutdown()
    with pytest.raises(ShutDown):
        q.get(block=False)
    assert items_of(q) == ["worse"]
    assert q.join(0)


def test_an_offer_of_a_dead_process_in_a_stopped_queue_is_a_letter(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    stage = staging.Stage(q)
    at = q._geometry.dead_heads + layout.DEAD_WORD
    stage.write(at, layout.next_dead_word(stage.word(at), layout.DEAD_OFFERED))
    q.shutdown(immediate=True)
    assert items_of(q) == ["bad"]


@pytest.mark.parametrize("end", [DeadLetter.done, DeadLetter.put_back])
def test_a_letter_seen_before_its_burial_ended_can_be_ended(
    make_leased: MakeQueue, end: Callable[[DeadLetter], None]
) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    stage = staging.Stage(q)
    at = q._geometry.dead_heads + layout.DEAD_WORD
    buried = layout.next_dead_word(stage.word(at), layout.DEAD_BURIED, 0)
    stage.write(at, buried)
    (one,), (same,) = q.dead_letters(), q.dead_letters()
    stage.write(at, layout.next_dead_word(buried, layout.DEAD_LETTER))
    end(one)
    assert q.dead_letters() == []
    with pytest.raises(DeadLetterGoneError):
        same.done()


@pytest.mark.parametrize("is_shut", [False, True])
def test_an_offer_that_another_process_decides(
    make_leased: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch, is_shut: bool
) -> None:
    """That refuses it and ends the letter, or takes it and ends the item, before the offering process looks."""
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    (letter,) = q.dead_letters()
    decide = DeadLetters._decide

    def decide_late(self: DeadLetters, words: Words, at: int, offered: int) -> bool | None:
        monkeypatch.undo()
        with SharedMemoryQueue("q", run_id=run_id) as other:
            if is_shut:
                other.shutdown()
                other.dead_letters()[0].done()
            else:
                other.lease(block=False).done()
        return decide(self, words, at, offered)

    monkeypatch.setattr(DeadLetters, "_decide", decide_late)
    with pytest.raises(DeadLetterGoneError) if is_shut else nullcontext():
        letter.put_back()


@pytest.mark.parametrize("is_ended", [False, True])
def test_a_letter_that_a_shutdown_keeps_stays_until_it_is_ended(
    make_leased: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch, is_ended: bool
) -> None:
    """The queue is shut down between the offer and the decision; then another process may end the letter at once."""
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    (letter,) = q.dead_letters()
    decide = DeadLetters._decide

    def shut_down_and_decide(self: DeadLetters, words: Words, at: int, offered: int) -> bool | None:
        monkeypatch.undo()
        with SharedMemoryQueue("q", run_id=run_id) as other:
            other.shutdown()
            outcome = decide(self, words, at, offered)
            if is_ended:
                other.dead_letters()[0].done()
        return outcome

    monkeypatch.setattr(DeadLetters, "_decide", shut_down_and_decide)
    with pytest.raises(ShutDown):
        letter.put_back()
    assert q.qsize() == 0
    if is_ended:
        with pytest.raises(DeadLetterGoneError):
            letter.done()
    else:
        letter.done()
    assert q.dead_letters() == []


def test_a_letter_keeps_its_queue_and_is_not_pickled(make_leased: MakeQueue, run_id: str) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    (letter,) = SharedMemoryQueue("q", run_id=run_id).dead_letters()
    assert letter.item == "bad"
    assert isinstance(letter, DeadLetter)
    assert letter.raw in bytes(q._membership.segment.buffer)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(letter)
    letter.put_back()
    assert q.get(block=False) == "bad"


@forks
def test_a_forked_child_ends_the_letters_that_its_parent_has_seen(make_leased: MakeQueue) -> None:
    q = make_leased(max_deliveries=1)
    bury(q, "bad")
    (letter,) = q.dead_letters()
    assert in_child(letter.done) == 0
    assert q.dead_letters() == []


# ---- the argument ---------------------------------------------------------------------------------------------------


def test_a_queue_keeps_its_number_of_deliveries(make_leased: MakeQueue, run_id: str) -> None:
    q = make_leased(max_deliveries=3)
    assert q.max_deliveries == q.get_metrics()["max_deliveries"] == 3
    for arguments in ({}, {"max_deliveries": 3}):
        with SharedMemoryQueue("q", run_id=run_id, **arguments) as other:  # type: ignore[arg-type]
            assert other.max_deliveries == 3
    with pytest.raises(QueueMismatchError, match="max_deliveries=3, not 4"):
        SharedMemoryQueue("q", run_id=run_id, max_deliveries=4)


def test_deliveries_are_counted_on_queues_with_leases_only(make_queue: MakeQueue) -> None:
    with pytest.raises(ValueError, match="max_deliveries=3 needs leases"):
        make_queue(max_deliveries=3)
    assert make_queue().dead_letters() == []


def test_there_are_as_many_places_as_leases_and_not_more_than_a_limit() -> None:
    for leases, dead in ((1, 1), (1024, 1024), (2000, 1024)):
        assert layout.Geometry.of(1, 1, "mpmc", leases, 1).dead == dead
        assert layout.Geometry.of(1, 1, "mpmc", leases).dead == 0
