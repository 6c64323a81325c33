"""Two operations in every order of their steps that has up to three switches: A, B, A, B.

The engine as it is, in two threads that hand each other a baton before each atomic step. The many-switch orders and the
weak memory models are left to longer runs elsewhere; this catches, in seconds, a step that stands on the wrong side of
another.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared_multiprocess_queue import Empty, Full, SharedMemoryQueue
from shared_multiprocess_queue._engine import lifecycle, waiting
from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from shared_multiprocess_queue._engine.membership import Membership
from shared_multiprocess_queue._platform import atomic_words
from tests.support.queues import MakeQueue, assert_works
from tests.support.texts import drained_texts, fill, payload

Operation = Callable[[AtomicsEngine], Any]


class Baton:
    """Lets one of two actors run at a time, for a number of steps."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: object = None
        self._left = 0

    def let(self, actor: Actor, steps: int) -> int:
        """Let an actor take up to ``steps`` steps; return how many it did not take because it ended."""
        if steps == 0:
            return 0
        with self._changed:
            self._running, self._left = actor, steps
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._running is None)
            return self._left

    def step(self, actor: Actor) -> None:
        """Wait for this actor's turn; called before each step."""
        with self._changed:
            if self._running is actor and self._left == 0:
                self._running = None
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._running is actor and self._left > 0)
            self._left -= 1

    def end(self) -> None:
        """Give the baton back for good."""
        with self._changed:
            self._running = None
            self._changed.notify_all()


class Actor:
    """One handle, whose operation runs in a thread, step by step."""

    def __init__(self, queue: SharedMemoryQueue) -> None:
        segment, geometry, flag = lifecycle.attach(queue.name, queue.run_id)
        self._stepping = False
        self._baton = Baton()
        memory = SteppedMemory(atomic_words.open_words(segment.buffer), self)
        self.engine = AtomicsEngine(Membership(segment, geometry, flag, memory))
        with self.engine.membership.operation():
            pass
        self._segment, self._flag = segment, flag

    def step(self) -> None:
        if self._stepping:
            self._baton.step(self)

    def begin(self, baton: Baton, operation: Operation) -> None:
        self.result: Any = None
        self._baton = baton
        self._stepping = True
        self._thread = threading.Thread(target=self._run, args=(operation,))
        self._thread.start()

    def _run(self, operation: Operation) -> None:
        try:
            self.result = operation(self.engine)
        except BaseException as error:
            self.result = error
        self._stepping = False
        self._baton.end()

    @property
    def done(self) -> bool:
        return not self._stepping

    def join(self) -> None:
        self._thread.join()

    def close(self) -> None:
        assert self.engine.membership.close(wait=True)
        self._flag.close()
        self._segment.close()


class SteppedMemory:
    """Words that ask their actor before each step."""

    def __init__(self, inner: atomic_words.WordMemory, actor: Actor) -> None:
        self._inner = inner
        self._actor = actor

    def reader(self) -> atomic_words.Reader:
        return self._inner.reader()

    def words(self) -> Any:
        inner, actor = self._inner.words(), self._actor
        stepped = type("SteppedWords", (), {})()

        def with_step(operation: Callable[..., object]) -> Callable[..., object]:
            def run(*arguments: object) -> object:
                actor.step()
                return operation(*arguments)

            return run

        for name in ("load", "load_after_rmw", "store", "cas", "cas_noted", "add", "peek", "announce"):
            setattr(stepped, name, with_step(getattr(inner, name)))

        def announce_range(offset: int, begin: int, end: int) -> None:
            stepped.announce(offset, begin)
            stepped.announce(offset + 8, end)

        stepped.announce_range = announce_range
        return stepped

    def release(self) -> None:
        self._inner.release()


ALL = 1_000_000


def orders(first: Actor, second: Actor, one: Operation, other: Operation) -> Iterator[tuple[int, int]]:
    """Run both operations in every order A*a B*b A... B...; yield after each, with a and b."""
    for a in itertools.count():
        for b in itertools.count():
            baton = Baton()
            first.begin(baton, one)
            second.begin(baton, other)
            a_was_short = baton.let(first, a) > 0 or first.done
            b_was_short = not second.done and (baton.let(second, b) > 0 or second.done)
            while not (first.done and second.done):
                for actor in (first, second):
                    if not actor.done:
                        baton.let(actor, ALL)
            first.join()
            second.join()
            yield a, b
            if b_was_short:
                break
        if a_was_short:
            return


def put(*texts: str) -> Operation:
    def run(engine: AtomicsEngine) -> list[str]:
        try:
            if len(texts) == 1:
                engine.put(payload(texts[0]), 0)
            else:
                engine.put_batch([payload(text) for text in texts], 0)
        except Full:
            return []
        return list(texts)

    return run


def get(limit: int) -> Operation:
    def run(engine: AtomicsEngine) -> list[str]:
        try:
            return [data.decode() for data, _ in engine.get(limit, 0, list)]
        except Empty:
            return []

    return run


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls that do not wait have no patience: here the other operation does not move meanwhile."""
    monkeypatch.setattr(waiting, "PATIENCE", 0)


SIZES = [(capacity, filled) for capacity in (2, 1, 3) for filled in (1, 0, 2, 3) if filled <= capacity]
PRODUCERS = {"put": ["a"], "batch": ["a", "a2"]}
OTHERS = {"put": ["b"], "batch": ["b", "b2"]}


@pytest.mark.costly
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("capacity", "one", "other"),
    [
        pytest.param(*variant, marks=pytest.mark.long if variant[1:] == ("batch", "batch") else ())
        for variant in itertools.product([2, 1, 3], PRODUCERS, OTHERS)
    ],
)
def test_two_producers_at_once(make_queue: MakeQueue, capacity: int, one: str, other: str) -> None:
    mine, yours = PRODUCERS[one], OTHERS[other]
    if capacity < max(len(mine), len(yours)):
        pytest.skip("a batch that can never fit is refused before it starts")
    queue = make_queue(capacity=capacity)
    first, second = Actor(queue), Actor(queue)
    for order in orders(first, second, put(*mine), put(*yours)):
        found = drained_texts(queue)
        done = first.result, second.result
        assert found in ([*done[0], *done[1]], [*done[1], *done[0]]), order
        if len(mine) + len(yours) <= capacity and "batch" not in (one, other):
            assert len(found) == len(mine) + len(yours), order
        assert_works(queue)
    first.close()
    second.close()


@pytest.mark.costly
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("capacity", "filled"), SIZES)
@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("kind", PRODUCERS)
def test_a_producer_and_a_consumer_at_once(
    make_queue: MakeQueue, capacity: int, filled: int, limit: int, kind: str
) -> None:
    mine = PRODUCERS[kind]
    if capacity < len(mine):
        pytest.skip("a batch that can never fit is refused before it starts")
    queue = make_queue(capacity=capacity)
    first, second = Actor(queue), Actor(queue)
    before = fill(queue, filled)
    for order in orders(first, second, put(*mine), get(limit)):
        taken, rest = second.result, drained_texts(queue)
        assert taken + rest == before + first.result, order
        if limit >= filled + len(mine):
            assert taken in (before, before + mine), f"{order}: half a batch was seen"
        if filled:
            assert taken, f"{order}: there was an item all the time"
        if filled + len(mine) <= capacity:
            assert first.result, f"{order}: there was room all the time"
        assert_works(queue)
        fill(queue, filled)
    drained_texts(queue)
    first.close()
    second.close()


@pytest.mark.costly
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("capacity", "filled"), SIZES)
@pytest.mark.parametrize(("one", "other"), [(1, 1), (1, 2), (2, 2)])
def test_two_consumers_at_once(make_queue: MakeQueue, capacity: int, filled: int, one: int, other: int) -> None:
    queue = make_queue(capacity=capacity)
    first, second = Actor(queue), Actor(queue)
    before = fill(queue, filled)
    for order in orders(first, second, get(one), get(other)):
        rest = drained_texts(queue)
        assert sorted(first.result + second.result + rest) == before, order
        for taken in (first.result, second.result, rest):
            assert taken == sorted(taken), order
        if filled >= one + other:
            assert first.result, order
            assert second.result, order
        assert_works(queue)
        fill(queue, filled)
    drained_texts(queue)
    first.close()
    second.close()
