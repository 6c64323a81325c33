"""Deaths, interrupts and any words at all, while items move between lease slots and dead slots."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from shared_multiprocess_queue import (
    CorruptQueueError,
    DeadLetterGoneError,
    DeserializationError,
    Empty,
    Lease,
    LeaseLostError,
    LeasesHeldError,
    SharedMemoryQueue,
    ShutDown,
)
from shared_multiprocess_queue._engine import lifecycle
from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from shared_multiprocess_queue._engine.membership import Membership
from shared_multiprocess_queue._platform import atomic_words
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.claim import held_by
from shared_multiprocess_queue._ring.leased_look import LeasedLook
from stress.harness import dying
from stress.hostile import staging
from tests.support.children import in_child
from tests.support.interrupting import points
from tests.support.mortal import dies
from tests.support.queues import MakeQueue, let_look
from tests.support.steps import SPARSE

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*given back:ResourceWarning"),
]
ALLOWED = (Empty, CorruptQueueError, DeserializationError, LeaseLostError, LeasesHeldError)
forks = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


# ---- what a process does, in steps ----------------------------------------------------------------------------------


def lease_and_give_back(engine: AtomicsEngine) -> None:
    leasing = engine.membership.leasing
    assert leasing is not None
    with suppress(Empty):
        for held in engine.get(1, 0, lambda taken: list(map(held_by, taken)), leasing.of_objects):
            leasing.give_back(leasing.of_objects, held)


def move_letter(engine: AtomicsEngine, puts_back: bool) -> None:
    leases = engine.membership.ring.leases
    assert leases is not None
    dead = leases.dead_letters
    assert dead is not None
    with engine.membership.operation() as record:
        for letter in leases.letters(record.words, record.claim):
            (dead.put_back if puts_back else dead.drop)(record.words, letter)


def put_back(engine: AtomicsEngine) -> None:
    move_letter(engine, puts_back=True)


def put_back_and_lease(engine: AtomicsEngine) -> None:
    put_back(engine)
    lease_and_give_back(engine)


def drop(engine: AtomicsEngine) -> None:
    move_letter(engine, puts_back=False)


def everything(q: SharedMemoryQueue) -> list[object]:
    """Return all items that are there, and end them: those of the queue, then the dead letters."""
    found: list[object] = []
    until = time.monotonic() + 60
    while not q.join(0) and time.monotonic() < until:
        let_look(q)
        with suppress(Empty):
            found.append(q.get(timeout=0.01))
            q.task_done()
    for letter in q.dead_letters():
        found.append(letter.item)
        letter.done()
    return found


@forks
def test_after_the_death_of_a_mover_all_looks_agree(make_leased: MakeQueue) -> None:
    lacks_a_letter = 0
    for steps in itertools.count():
        q = make_leased(max_deliveries=1, leases=1)
        q.put(b"item")
        has_died = dies(q.name, q.run_id, lease_and_give_back, steps, counts_loads=False)
        before, size = q.get_metrics(), q.qsize()
        letters, after = len(q.dead_letters()), q.get_metrics()
        for metric, value in {"dead_letters": letters, "queue_size": size}.items():
            assert before[metric] == after[metric] == value, steps
        assert size + letters <= 1, steps
        assert before["dead_letters_total"] == after["dead_letters_total"] <= letters, steps
        lacks_a_letter += letters - after["dead_letters_total"]
        q.unlink()
        if not has_died:
            break
    assert lacks_a_letter == 1  # after the step that makes a letter, and before its count


@pytest.mark.costly
@forks
@pytest.mark.parametrize("operation", [lease_and_give_back, put_back, put_back_and_lease, drop])
def test_no_step_at_which_a_mover_dies_loses_an_item_or_has_it_twice(
    make_leased: MakeQueue, operation: Callable[[AtomicsEngine], None]
) -> None:
    q = make_leased(max_deliveries=1, leases=1)
    for steps in itertools.count():
        q.put(b"item")
        if operation is not lease_and_give_back:
            q.lease(timeout=60).release()
        has_died = dies(q.name, q.run_id, operation, steps)
        found = everything(q)
        assert found == [b"item"] or (operation is drop and found == []), steps
        with q._membership.operation() as record:
            assert layout.dead_state(record.words.load(q._geometry.dead_heads)) == layout.DEAD_FREE, steps
        if not has_died:
            assert steps > 2, "the operation has hardly any steps: nothing was tested"
            break


# ---- interrupts -----------------------------------------------------------------------------------------------------


def release(q: SharedMemoryQueue) -> None:
    q.put("item")
    q.lease(block=False).release()


def release_and_put_back(q: SharedMemoryQueue) -> None:
    release(q)
    q.dead_letters()[0].put_back()


def release_put_back_and_lease(q: SharedMemoryQueue) -> None:
    release_and_put_back(q)
    q.get(block=False)


def release_and_drop(q: SharedMemoryQueue) -> None:
    release(q)
    q.dead_letters()[0].done()


@SPARSE
@pytest.mark.parametrize("operation", [release, release_and_put_back, release_put_back_and_lease, release_and_drop])
def test_an_interrupt_anywhere_loses_no_letter_and_no_lease(
    make_leased: MakeQueue, operation: Callable[[SharedMemoryQueue], None], every: int
) -> None:
    q = make_leased(max_deliveries=1, leases=1)
    for where in points(lambda: operation(q), every):
        with suppress(ValueError):
            q.task_done()  # the get may have been completed
        assert len(everything(q)) <= 1, where
        with q._membership.operation() as record:
            words = record.words
            assert words.load(q._geometry.lease_heads + layout.LEASE_HOLDER) == 0, where
            assert layout.dead_state(words.load(q._geometry.dead_heads)) == layout.DEAD_FREE, where
        q.put("next")
        assert q.get(block=False) == "next", where
        q.task_done()
    with suppress(ValueError):
        q.task_done()
    everything(q)


@SPARSE
@forks
def test_an_interrupted_get_buries_nothing_of_a_dead_process(make_queue: MakeQueue, every: int) -> None:
    q = make_queue(max_deliveries=2, leases=1, engine="atomics")

    def die() -> None:
        with q.lease(block=False):
            os.kill(os.getpid(), signal.SIGKILL)

    def leave_one() -> None:
        q.put("item")
        assert in_child(die) == -signal.SIGKILL

    def lease() -> Lease:
        let_look(q)
        return q.lease(block=False)

    leave_one()
    for where in points(lease, every):
        assert q.dead_letters() == [], where
        lease().done()
        leave_one()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_interrupted_look_at_letters_loses_none(make_queue: MakeQueue) -> None:
    q = make_queue(max_deliveries=1, leases=1, engine="atomics")
    stage, geometry = staging.Stage(q), q._geometry

    def leave_a_burial() -> None:
        q.put("item")
        q.lease(block=False).release()
        at = geometry.dead_heads + layout.DEAD_WORD
        stage.write(at, layout.next_dead_word(stage.word(at), layout.DEAD_BURIED, 0))
        stage.lease(0, stage.word(geometry.dead_heads + layout.DEAD_POSITION))

    leave_a_burial()
    for where in points(q.dead_letters):
        assert [letter.item for letter in q.dead_letters()] == ["item"], where
        assert stage.word(geometry.lease_heads + layout.LEASE_HOLDER) == 0, where
        assert everything(q) == ["item"], where
        leave_a_burial()


def test_what_another_process_counts_beside_a_look_is_not_missed(make_leased: MakeQueue) -> None:
    """The sum of what is counted and what is not must not go down because one has moved in between."""
    q = make_leased(max_deliveries=1, leases=1)
    q.put("item")
    q.lease(block=False).release()
    stage, at = staging.Stage(q), q._geometry.dead_heads + layout.DEAD_WORD
    stage.write(at, layout.next_dead_word(stage.word(at), layout.DEAD_BURIED, 0))  # its process died before [M4]
    look = q._membership.look()
    assert isinstance(look, LeasedLook)
    before, not_counted = look.dead_letters_total(), LeasedLook._not_counted

    class Beside(LeasedLook):
        def _not_counted(self) -> int:
            q.dead_letters()
            return not_counted(self)

    assert Beside(q._membership.memory.reader(), q._geometry).dead_letters_total() == before == 2


# ---- any words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_any_words_of_dead_slots_end_in_an_answer(make_leased: MakeQueue, seed: int) -> None:
    rng = Random(seed)
    q = make_leased(capacity=2, item_size=64, max_deliveries=1)
    q.put_batch([1, 2])
    q.lease(block=False).release()
    lease = q.lease(block=False)
    stage, geometry = staging.Stage(q), q._geometry
    places = [geometry.dead_heads + number * layout.WORD for number in range(2 * layout.DEAD_HEAD_SIZE // layout.WORD)]
    places += [geometry.lease_heads + index * layout.LEASE_HEAD_SIZE + layout.LEASE_LINK for index in range(2)]
    for place in rng.sample(places, rng.randint(1, 6)):
        version = rng.getrandbits(45) << layout.DEAD_VERSION_SHIFT
        word = layout.next_dead_word(version, rng.randrange(8), rng.randrange(3))
        stage.write(place, rng.choice([word, rng.randrange(4), rng.getrandbits(64), layout.WORD_MASK]))

    def end_letters() -> None:
        for letter in q.dead_letters():
            with suppress(*ALLOWED, DeadLetterGoneError, ShutDown):
                repr((letter, letter.raw, letter.deliveries, letter.item))
                letter.put_back()
            with suppress(DeadLetterGoneError):
                letter.done()

    calls: list[Callable[[], object]] = [
        lambda: q.get(False),
        lease.release,
        end_letters,
        lambda: q.lease_batch(2, block=False),
        lambda: q.join(0),
        lambda: (q.qsize(), q.empty(), q.full(), repr(q), q.get_metrics()),
        end_letters,
    ]
    rng.shuffle(calls)
    for call in calls:
        with suppress(*ALLOWED):
            call()


class Scribbler(dying.Fate):
    """Writes any words into the dead slots, and what lease slots know of them, before one step.

    Args:
        q: the queue.
        seed: of the words.
    """

    def __init__(self, q: SharedMemoryQueue, seed: str) -> None:
        super().__init__()
        self._stage, self._rng = staging.Stage(q), Random(seed)

    def step(self) -> None:
        if self.left == 0:
            geometry = self._stage.geometry
            for index in range(2):
                at = geometry.dead_heads + index * layout.DEAD_HEAD_SIZE
                for place in range(at, at + layout.DEAD_LENGTH + layout.WORD, layout.WORD):
                    self._stage.write(place, self._word())
                link = geometry.lease_heads + index * layout.LEASE_HEAD_SIZE + layout.LEASE_LINK
                self._stage.write(link, self._word())
        self.left -= 1

    def _word(self) -> int:
        version = self._rng.choice([0, self._rng.getrandbits(45)]) << layout.DEAD_VERSION_SHIFT
        word = layout.next_dead_word(version, self._rng.randrange(8), self._rng.randrange(3))
        return self._rng.choice([word, word, self._rng.randrange(4), self._rng.getrandbits(64)])


@pytest.mark.slow
@pytest.mark.parametrize("operation", [lease_and_give_back, put_back_and_lease, drop])
def test_any_words_of_dead_slots_at_any_step_end_in_an_answer(
    make_queue: MakeQueue, operation: Callable[[AtomicsEngine], None]
) -> None:
    for steps in itertools.count():
        q = make_queue(max_deliveries=1, leases=2, engine="atomics")
        q.put_batch([b"one", b"two"])
        q.lease(block=False).release()
        scribbler = Scribbler(q, f"{operation.__name__}/{steps}")
        segment, geometry, flag = lifecycle.attach(q.name, q.run_id)
        memory = dying.DyingMemory(atomic_words.open_words(segment.buffer), scribbler)
        engine = AtomicsEngine(Membership(segment, geometry, dying.DyingFlag(flag, scribbler), memory))  # type: ignore[arg-type]
        with engine.membership.operation():
            pass
        scribbler.left = steps
        with suppress(*ALLOWED):
            operation(engine)
        is_over, scribbler.left = scribbler.left >= 0, -1
        for _ in range(3):
            with suppress(*ALLOWED):
                lease_and_give_back(engine)
        with suppress(*ALLOWED):
            q.get_metrics(), q.qsize(), q.dead_letters(), q.join(0), q.lease_batch(2, block=False)
        engine.membership.close(wait=False)
        q.unlink()
        if is_over:
            assert steps > 5, "the operation has hardly any steps: nothing was tested"
            break
