"""A queue made with delete=True goes with its last living user, and never before."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import QueueMismatchError, QueueNotFoundError, SharedMemoryQueue
from shared_multiprocess_queue._engine import sweep
from shared_multiprocess_queue._platform import removal
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.children import end_of, fork, in_child
from tests.support.descriptors import free_descriptors
from tests.support.places import SHM
from tests.support.segments import MARK, attach, create, remove, segments_of, works
from tests.support.steps import entries_of
from tests.support.waiting import LONG, eventually, in_thread, over_after

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def make(run_id: str, kind: str = "named") -> SharedMemoryQueue:
    if kind == "anonymous":
        return SharedMemoryQueue(run_id=run_id, capacity=3)
    return create(run_id, delete=True)


def make_any_queue(run_id: str) -> None:
    """Make and remove a queue that has nothing to do with others."""
    q = SharedMemoryQueue("any", create=True, capacity=1, item_size=8, run_id=run_id)
    remove(q)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_with(run_id: str, make_it: Callable[[], object]) -> None:
    def child() -> None:
        kept = make_it()
        die()
        del kept

    assert in_child(child) == -signal.SIGKILL


@pytest.fixture(params=["named", "anonymous"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- names and arguments --------------------------------------------------------------------------------------------


def test_a_queue_without_a_name_is_new_and_anonymous(run_id: str, each_engine: str) -> None:
    one, other = SharedMemoryQueue(run_id=run_id), SharedMemoryQueue(run_id=run_id)
    assert one.name != other.name
    assert sweep.is_anonymous(f"{run_id}-{one.name}-queue")
    assert not sweep.is_anonymous(f"{run_id}-q-queue")
    assert one.get_metrics()["delete"] is True
    with SharedMemoryQueue(one.name, run_id=run_id) as same:
        one.put("by its name")
        assert same.get() == "by its name"
    one.close()
    other.close()
    assert segments_of(run_id) == set()


def test_delete_is_a_value_of_the_queue(run_id: str) -> None:
    q = create(run_id)
    assert q.get_metrics()["delete"] is False
    with pytest.raises(QueueMismatchError, match="delete=False, not True"):
        attach(run_id, delete=True)
    remove(q)
    with make(run_id) as q, attach(run_id, delete=True), attach(run_id):
        assert q.get_metrics()["delete"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wait": 1}, "without a name is always a new one"),
        ({"exist_ok": True, "create": True}, "without a name is always a new one"),
        ({"name": "q", "exist_ok": True}, "exist_ok=True is for create=True"),
        ({"name": "q", "create": True, "wait": 1}, "wait is for attaching"),
        ({"name": "q", "create": True, "delete": 1}, "delete must be True or False, not 1"),
        ({"name": "q", "create": True, "exist_ok": None}, "exist_ok must be True or False, not None"),
        ({"name": "q", "wait": -1}, "'wait' must be a non-negative number"),
        ({"name": None}, "name must be a str"),
        ({"name": ""}, "name must not be empty"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(run_id: str, arguments: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SharedMemoryQueue(run_id=run_id, **arguments)
    assert segments_of(run_id) == set()


# ---- the last user --------------------------------------------------------------------------------------------------


def test_it_goes_with_the_last_handle(run_id: str, each_engine: str, kind: str) -> None:
    q = make(run_id, kind)
    other = SharedMemoryQueue(q.name, run_id=run_id)
    q.put("still there")
    q.close()
    assert len(segments_of(run_id)) == 2
    assert other.get() == "still there"
    other.close()
    assert segments_of(run_id) == set()
    q.close()
    q.unlink()


def test_it_goes_with_a_handle_that_is_dropped(run_id: str, each_engine: str) -> None:
    q = make(run_id)
    del q
    assert segments_of(run_id) == set()


def test_unlink_and_a_newer_queue_of_its_name_are_as_ever(run_id: str, path: Path) -> None:
    old = make(run_id)
    old.unlink()
    new = make(run_id)
    old.close()
    assert path.exists()
    assert works(new)
    new.close()
    assert segments_of(run_id) == set()


def test_a_close_that_is_interrupted_is_completed_by_the_next(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q = make(run_id)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(removal, "remove_unused", interrupt)
        with pytest.raises(KeyboardInterrupt):
            q.close()
    assert len(segments_of(run_id)) == 2
    q.close()
    assert segments_of(run_id) == set()


def test_an_attachment_that_is_refused_removes_a_queue_without_users(run_id: str, kind: str) -> None:
    """For a moment the process that is refused was its last user."""
    q = make(run_id, kind)
    child = fork(signal.pause)
    q.close()
    os.kill(child, signal.SIGKILL)
    end_of(child)
    try:
        with pytest.raises(QueueMismatchError):
            SharedMemoryQueue(q.name, run_id=run_id, capacity=99)
    except QueueNotFoundError:
        pass  # a creation beside this test was faster
    assert segments_of(run_id) == set()


# ---- forked children ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [signal.SIGCONT, signal.SIGSTOP])
def test_an_idle_child_keeps_it(run_id: str, each_engine: str, kind: str, state: signal.Signals) -> None:
    """Even a stopped one; creations of other queues do not sweep it."""
    q = make(run_id, kind)
    child = fork(signal.pause)
    os.kill(child, state)
    q.close()
    make_any_queue(run_id)
    try:
        with SharedMemoryQueue(q.name, run_id=run_id) as again:
            assert works(again)
        make_any_queue(run_id)
        assert len(segments_of(run_id)) == 2
    finally:
        os.kill(child, signal.SIGKILL)
        end_of(child)
    make_any_queue(run_id)
    assert segments_of(run_id) == set()


# ---- queues without users -------------------------------------------------------------------------------------------


def test_after_a_kill_of_all_users_the_next_creation_removes_it(run_id: str, each_engine: str, kind: str) -> None:
    killed_with(run_id, lambda: (make(run_id, kind), make(run_id, "anonymous")))
    make_any_queue(run_id)
    assert segments_of(run_id) == set()


def test_after_a_kill_the_next_creation_of_its_own_name_works(run_id: str) -> None:
    killed_with(run_id, lambda: make(run_id).put("old"))
    with make(run_id) as q:
        assert q.empty()


def test_a_queue_without_delete_is_never_swept(run_id: str, path: Path) -> None:
    killed_with(run_id, lambda: create(run_id).put("kept"))
    make_any_queue(run_id)
    q = attach(run_id)
    assert q.get() == "kept"
    remove(q)


def test_what_a_dead_creator_of_such_a_queue_left_is_swept(run_id: str) -> None:
    """A file that has the mark and no word of deletion is left to the next creation of its name, as ever."""
    word = (1).to_bytes(8, "little")
    start = MARK.ljust(layout.DELETE_AT, b"\0") + word
    swept = {
        f"{run_id}-q-queue": start,
        f"{run_id}-anonymous-1-{'ab' * 16}-queue": b"",
        f"{run_id}-anonymous-2-{'ab' * 16}-queue": MARK,
        f"{run_id}-anonymous-3-{'ab' * 16}-queue-lock": bytes(4),
    }
    left = {f"{run_id}-other-queue": MARK, f"{run_id}-empty-queue": b"", f"{run_id}-foreign-queue": b"x" * 5000}
    left |= {f"{run_id}-lone-queue-lock": bytes(4)}
    for name, content in (swept | left).items():
        (SHM / name).write_bytes(content)
    make_any_queue(run_id)
    assert segments_of(run_id) == set(left)
    for name in left:
        (SHM / name).unlink()


def test_a_damaged_or_foreign_name_is_not_opened_twice(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sweep costs: of a queue that stays only the name is read again."""
    q = create(run_id)
    opened: list[str] = []
    real = removal._start_of

    def note(name: str) -> bytes | None:
        opened.append(name)
        return real(name)

    make_any_queue(run_id)
    monkeypatch.setattr(removal, "_start_of", note)
    with make(run_id, "anonymous"):
        make_any_queue(run_id)
        make_any_queue(run_id)
    assert not [name for name in opened if name.startswith(run_id)], "this process knows them all"
    remove(q)


def test_a_sweep_that_lacks_descriptors_forgets_no_queue(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it could not look at, the next sweep looks at."""
    listing = removal.Listing("-queue", "-lock")
    monkeypatch.setattr(sweep, "_listing", listing)
    monkeypatch.setattr(removal.Listing, "_entries", entries_of(run_id))
    killed_with(run_id, lambda: make(run_id))

    def child() -> None:
        with free_descriptors(0):
            sweep.sweep()
        sweep.sweep()

    assert in_child(child) == 0
    assert segments_of(run_id) == set()


def test_a_creation_opens_no_more_than_its_limit(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [SHM / f"{run_id}-f{i}-queue" for i in range(40)]
    for path in paths:
        path.write_bytes(b"foreign")
    listing = removal.Listing("-queue", "-lock")
    seen: list[str] = []
    for _ in range(100):
        before = len(seen)
        listing.unused(lambda name, _: seen.append(name), set(), 10)
        assert len(seen) - before <= 10
        if set(seen) >= {path.name for path in paths}:
            break
    else:
        raise AssertionError(f"only {len(set(seen))} are ever looked at")
    for path in paths:
        path.unlink()


def test_one_description_more_is_one_user_more(run_id: str, kind: str) -> None:
    """Sweeps beside a process that opens and closes the queue all the time never take it from that process."""
    over = threading.Event()

    def open_and_close() -> int:
        times = 0
        while not over.is_set():
            with SharedMemoryQueue(q.name, run_id=run_id) as other:
                assert other._membership.segment.has_name()
            times += 1
        return times

    with make(run_id, kind) as q:
        others = [in_thread(open_and_close) for _ in range(2)]
        for _ in range(50):
            sweep.sweep()
            removal.remove_unused(*_names(q), lambda _: True, layout.UNLINKED_AT)
            assert q._membership.segment.has_name()
        over.set()
        assert all(other.result(LONG) for other in others)
    assert segments_of(run_id) == set()


def _names(q: SharedMemoryQueue) -> tuple[str, str]:
    segment = q._membership.segment.name
    return segment, f"{segment}-lock"


@pytest.mark.slow
def test_nobody_is_given_a_queue_that_goes_under_it(run_id: str) -> None:
    """One process makes and closes the queue again and again, two attach, and one creates others, which sweeps."""
    stop, may_stop = os.pipe()
    os.set_blocking(stop, False)

    def is_over() -> bool:
        try:
            return bool(os.read(stop, 1))
        except BlockingIOError:
            return False

    def makes() -> None:
        while not is_over():
            with create(run_id, delete=True, exist_ok=True):
                pass

    def attaches() -> None:
        times = 0
        while not is_over():
            try:
                q = attach(run_id, wait=None)
            except FileNotFoundError:
                continue
            for _ in range(20):
                assert q._membership.segment.has_name()
            q.close()
            times += 1
        assert times > 5

    def sweeps() -> None:
        while not is_over():
            make_any_queue(run_id)

    children = [fork(work) for work in (makes, sweeps, attaches, attaches)]
    try:
        eventually(over_after(3.0))
        os.write(may_stop, b"x" * 4)
        with create(run_id, delete=True, exist_ok=True):  # the end of those that wait for it
            assert [end_of(child) for child in children] == [0] * 4
    finally:
        os.close(stop)
        os.close(may_stop)
    make_any_queue(run_id)
    assert segments_of(run_id) == set()
