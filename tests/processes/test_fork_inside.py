"""A fork at every point of a call at which Python serves signals, where the handler returns in the child.

The child then stands in the middle of its parent's operation. It may not go on with it.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue, TooManyParticipantsError
from shared_multiprocess_queue._engine import choice, waiting
from shared_multiprocess_queue._ring import layout
from stress.explore.interrupts import Interrupter, watch
from tests.support.queues import MakeQueue, drained

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a child that finds the role taken say so at once."""
    monkeypatch.setattr(waiting, "PATIENCE", 1_000_000)


REFUSED = "refused"
Call = Callable[[SharedMemoryQueue], object]


class Forker(Interrupter):
    """Forks at the k-th point; one of both goes on at once, and the other when that one has come to its end.

    Args:
        point: k.
        child_first: which of both is the first.
        in_child: called in the child before it goes on.
        look: called before the fork; what it returns is in ``seen``.
    """

    def __init__(
        self, point: int, child_first: bool, in_child: Callable[[], object], look: Callable[[], object]
    ) -> None:
        super().__init__(point)
        self._look = look
        self.seen: object = None
        self.child = -1
        self._child_first = child_first
        self._in_child = in_child
        self.answer, self._answers = os.pipe()
        self._starts, self.start = os.pipe()

    def _point(self, frame: Any) -> None:
        if self.left == 0 and self.child < 0:
            self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
            watch(None)
            self.seen = self._look()
            self.child = os.fork()
            if self.child == 0:
                os.close(self.start)
                if not self._child_first:
                    os.read(self._starts, 1)
                self._in_child()
            else:
                os.close(self._answers)
                if self._child_first:
                    os.waitpid(self.child, 0)
        self.left -= self.child < 0

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        return super().trace(frame, event, argument) if self.child < 0 else None

    def run(self, call: Callable[[], object]) -> tuple[object, object, bool]:
        """Make the call; return what came of it here, and in the child, and whether there was one."""
        found: object
        watch(self)
        try:
            found = call()
        except RuntimeError as error:
            found = REFUSED if "forked" in str(error) else error
        except BaseException as error:
            found = error
        finally:
            watch(None)
            if self.child == 0:  # whatever else is wrong, the child ends here
                try:
                    answer = found if isinstance(found, (list, str, type(None))) else f"{found!r}"
                    os.write(self._answers, pickle.dumps(answer))
                finally:
                    os._exit(0)
        os.close(self.start)
        os.close(self._starts)
        has_forked = self.child > 0
        childs: object = None
        if has_forked:
            if not self._child_first:
                os.waitpid(self.child, 0)
            with open(self.answer, "rb", closefd=False) as file:
                childs = pickle.load(file)
        else:
            os.close(self._answers)
        os.close(self.answer)
        return found, childs, has_forked


def reserve(q: SharedMemoryQueue) -> None:
    with q.reserve(4, False) as memory:
        memory[:] = b"item"


PUTS: dict[str, tuple[Call, list[object]]] = {
    "put": (lambda q: q.put("item", False), ["item"]),
    "put_batch": (lambda q: q.put_batch(["a", "b"], False), ["a", "b"]),
    "reserve": (reserve, [b"item"]),
}


GETS: dict[str, Call] = {
    "get": lambda q: [q.get(False)],
    "get_batch": lambda q: q.get_batch(2, False),
}


def use(q: SharedMemoryQueue) -> None:
    """Use the queue in the child, with a record."""
    q.qsize()
    with q._membership.operation():
        pass


def nothing() -> None:
    """Do nothing in the child but go on."""


@pytest.mark.parametrize("uses", [False, True], ids=["goes on", "uses the queue first"])
@pytest.mark.parametrize("child_first", [False, True], ids=["parent first", "child first"])
@pytest.mark.parametrize("how", ["put", "put_batch", pytest.param("reserve", marks=pytest.mark.long)])
def test_the_parents_put_is_put_once_and_the_childs_is_its_own(
    make_queue: MakeQueue, each_engine: str, mode: str, how: str, child_first: bool, uses: bool
) -> None:
    call, items = PUTS[how]
    for point in itertools.count():
        q = make_queue(capacity=5, mode=mode)
        before = tail_of(q)
        forker = Forker(point, child_first, partial(use, q) if uses else nothing, lambda q=q: tail_of(q))  # type: ignore[misc]
        mine, childs, has_forked = forker.run(lambda q=q: call(q))  # type: ignore[misc]
        assert mine is None, forker.where
        where = f"{forker.where}: {childs!r}"
        was_put = forker.seen != before  # a put that was done before the fork is the parent's alone
        own = 1 if has_forked and childs is None and not was_put else 0
        if childs is not None:
            assert childs == REFUSED or (mode == "spsc" and str(childs).startswith("RoleTakenError")), where
        assert drained(q) == items * (1 + own), where
        check_afterwards(q, where)
        if not has_forked:
            break
    assert point > (10 if each_engine == "atomics" else 0)


@pytest.mark.parametrize("uses", [False, True], ids=["goes on", "uses the queue first"])
@pytest.mark.parametrize("child_first", [False, True], ids=["parent first", "child first"])
@pytest.mark.parametrize("how", GETS)
def test_an_item_is_the_parents_or_the_childs(
    make_queue: MakeQueue, each_engine: str, mode: str, how: str, child_first: bool, uses: bool
) -> None:
    for point in itertools.count():
        q = make_queue(capacity=5, mode=mode)
        q.put_batch(["a", "b", "c"])
        forker = Forker(point, child_first, partial(use, q) if uses else nothing, nothing)
        mine, childs, has_forked = forker.run(lambda q=q: GETS[how](q))  # type: ignore[misc]
        where = f"{forker.where}: {mine!r}, {childs!r}"
        assert isinstance(mine, list), where
        if has_forked and not isinstance(childs, list):
            assert childs == REFUSED or (mode == "spsc" and str(childs).startswith("RoleTakenError")), where
        found = mine + (childs if isinstance(childs, list) else []) + drained(q)
        assert sorted(found) == ["a", "b", "c"], where
        check_afterwards(q, where)
        if not has_forked:
            break
    assert point > (10 if each_engine == "atomics" else 0)


def tail_of(q: SharedMemoryQueue) -> int:
    return int.from_bytes(q._membership.segment.buffer[layout.TAIL :][: layout.WORD], sys.byteorder)


def check_afterwards(q: SharedMemoryQueue, where: str) -> None:
    """See that the parent's handle is whole, and that nothing of the child is in the way."""
    assert set(q.get_metrics()["participants"]) == {os.getpid()}, where
    for _ in range(2):
        q.put_batch([1, 2, 3, 4, 5], False)
        assert drained(q) == [1, 2, 3, 4, 5], where
    words = q._membership.segment.buffer.cast("Q")
    try:
        assert words[layout.BATCH_OWNER_AT >> 3] == 0, where
    finally:
        words.release()
    q.close()
    q.unlink()


@pytest.mark.skipif(not choice.has_native(), reason="the native engine was not built")
def test_a_close_that_waited_for_no_beginning_is_completed(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close waited for an operation that cannot begin any more."""
    q = make_queue(engine="native")
    q._membership.retire()  # so that the next operation needs a record
    memory = q._membership.segment.buffer
    for index in range(layout.RECORDS):
        at = layout.record_at(index) + layout.OWNER
        memory[at : at + layout.WORD] = q._membership.participants.owner.to_bytes(layout.WORD, sys.byteorder)
    begin = TooManyParticipantsError.__init__

    def close_first(self: TooManyParticipantsError, records: int) -> None:  # as a signal handler may
        begin(self, records)
        monkeypatch.setattr(TooManyParticipantsError, "__init__", begin)
        monkeypatch.setattr("shared_multiprocess_queue._engine.membership._QUIET", 0)
        q.close()
        assert q._membership.state.name == "CLOSING"

    monkeypatch.setattr(TooManyParticipantsError, "__init__", close_first)
    with pytest.raises(TooManyParticipantsError):
        q.put(1)
    assert not q._membership.records.leave() or not q._membership.roles.record
