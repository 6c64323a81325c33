"""Attaching beside creators, without time, and starts that fail."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import QueueNotFoundError, QueueNotReadyError, SharedMemoryQueue
from shared_multiprocess_queue._engine import choice, lifecycle
from shared_multiprocess_queue._platform import shared_memory
from tests.support.children import end_of, fork
from tests.support.places import SHM
from tests.support.segments import MARK, attach, create, remove, segments_of, works
from tests.support.waiting import SOON

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def mappings(path: Path) -> int:
    """Return how often this process has a segment mapped that has, or had, a name."""
    return Path("/proc/self/maps").read_text().count(str(path))


# ---- attaching beside creators, without time ------------------------------------------------------------------------


def test_a_creator_that_has_only_just_begun_is_not_called_dead(run_id: str, path: Path) -> None:
    """Between its first two steps nothing proves yet that it lives."""
    path.touch(0o600)
    with pytest.raises(QueueNotReadyError, match=r"is being created, or its creator died as it began; try again"):
        attach(run_id, timeout=0)
    path.write_bytes(MARK)  # with a free flock: this one is dead
    with pytest.raises(QueueNotFoundError, match="never finished"):
        attach(run_id, timeout=0)
    path.unlink()


def test_a_creator_that_goes_on_just_after_the_look_is_not_called_dead(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch(0o600)
    real = shared_memory._Descriptor.is_locked_by_another

    def goes_on(self: shared_memory._Descriptor) -> bool:
        found = real(self)
        path.write_bytes(MARK)
        return found

    monkeypatch.setattr(shared_memory._Descriptor, "is_locked_by_another", goes_on)
    with pytest.raises(QueueNotReadyError, match="is being created"):
        attach(run_id, timeout=0)
    path.unlink()


@pytest.fixture
def replaced_at(run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let a queue be unlinked, and something else happen, at the moment when a function of the package is called."""
    with ExitStack() as until_the_end:

        def prepare(owner: Any, function: str, then: Callable[[], object] = lambda: None) -> None:
            q = create(run_id)
            real = getattr(owner, function)

            def replaced(*arguments: Any, **keywords: Any) -> Any:
                monkeypatch.setattr(owner, function, real)
                remove(q)
                made = then()
                if isinstance(made, SharedMemoryQueue):
                    until_the_end.callback(remove, made)
                return real(*arguments, **keywords)

            monkeypatch.setattr(owner, function, replaced)

        yield prepare
    for name in segments_of(run_id):
        (SHM / name).unlink()


PLACES = [(lifecycle, "check"), (lifecycle, "open_lock"), (shared_memory.Segment, "has_name")]


@pytest.mark.parametrize(("owner", "function"), PLACES)
def test_a_queue_replaced_during_an_attach_is_not_gone(
    run_id: str, each_engine: str, replaced_at: Callable[..., None], owner: Any, function: str, path: Path
) -> None:
    """While there is time the attach takes the queue that has the name now."""
    before = mappings(path)
    replaced_at(owner, function, lambda: create(run_id, capacity=7))
    with attach(run_id, timeout=SOON) as q:
        assert q.capacity == 7
        assert works(q)
        assert set(q.get_metrics()["participants"]) == {os.getpid()}
        assert mappings(path) == before + 4, "two handles have two segments each; of the replaced queue nothing is left"


@pytest.mark.parametrize(("owner", "function"), PLACES[1:])
def test_without_time_a_queue_replaced_at_an_attach_is_being_made(
    run_id: str, path: Path, each_engine: str, replaced_at: Callable[..., None], owner: Any, function: str
) -> None:
    """The attach has no time to wait for the queue that has the name now."""
    replaced_at(owner, function, lambda: path.touch(0o600))
    with pytest.raises(QueueNotReadyError, match="unlinked and created anew while this process attached; try again"):
        attach(run_id, timeout=0)


@pytest.mark.parametrize(("owner", "function"), PLACES[1:])
def test_a_queue_that_is_unlinked_during_an_attach_is_gone(
    run_id: str, replaced_at: Callable[..., None], owner: Any, function: str
) -> None:
    replaced_at(owner, function)
    with pytest.raises(QueueNotFoundError, match="unlinked while this process attached; create it again"):
        attach(run_id, timeout=SOON)


def test_a_queue_that_is_unlinked_while_it_is_made_says_so_to_its_creator(
    run_id: str, path: Path, each_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlinked(_: object) -> bool:
        path.unlink()
        return False

    with monkeypatch.context() as patch:
        patch.setattr(shared_memory.Segment, "has_name", unlinked)
        with pytest.raises(QueueNotFoundError, match="unlinked by another process just as this one had created it"):
            create(run_id)
    for name in segments_of(run_id):
        (SHM / name).unlink()


@pytest.mark.parametrize("times", [50, pytest.param(400, marks=pytest.mark.slow)])
def test_beside_a_healthy_creator_nothing_is_called_dead_or_incomplete(run_id: str, times: int) -> None:
    def creator() -> None:
        for _ in range(times):
            q = create(run_id, capacity=2, item_size=64)
            q.unlink()
            q.close()

    pid = fork(creator)
    answers: set[str] = set()
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        try:
            attach(run_id, timeout=0).close()
        except (QueueNotFoundError, QueueNotReadyError) as error:
            answers.add(str(error))
    assert end_of(pid) == 0
    assert not [text for text in answers if "its process is gone" in text or "incomplete" in text], answers


# ---- timeout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", ["x", [], -1, -math.inf, math.nan, 1j])
def test_a_timeout_that_is_none_is_refused_by_each_constructor(run_id: str, timeout: Any) -> None:
    """It is refused whether the queue is created or attached."""
    refusals: list[Exception] = []
    for arguments in ({"create": True, "capacity": 3}, {"create": False}):
        with pytest.raises((TypeError, ValueError), match="'timeout' must be") as refused:
            SharedMemoryQueue("q", run_id=run_id, timeout=timeout, **arguments)
        refusals.append(refused.value)
    assert type(refusals[0]) is type(refusals[1])
    assert str(refusals[0]) == str(refusals[1])
    assert segments_of(run_id) == set()


# ---- starts that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("creating", [False, True])
def test_a_start_that_fails_keeps_neither_records_nor_memory(
    run_id: str, path: Path, each_engine: str, monkeypatch: pytest.MonkeyPatch, creating: bool
) -> None:
    """It keeps none although its traceback is kept, and with that its frames."""
    q = None if creating else create(run_id)
    before = mappings(path), set(_live())
    engine_class = choice.choose(None)
    real = engine_class.open

    def fails_in_the_end(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        assert mappings(path) > before[0]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine_class, "open", fails_in_the_end)
        with pytest.raises(KeyboardInterrupt) as kept:
            SharedMemoryQueue("q", create=creating, run_id=run_id)
    assert kept.value.__traceback__ is not None
    assert (mappings(path), set(_live())) == before
    if q is not None:
        assert q.get_metrics()["participants"] == {os.getpid(): 1}
        remove(q)
    assert segments_of(run_id) == set()


def _live() -> Any:
    from shared_multiprocess_queue import queue as module

    return module._live
