"""A creation may end at any moment of a look at its segment; the look sees it before its end, or whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import QueueFile, QueueNotReadyError, SharedMemoryQueue, inspect, list_queues
from shared_multiprocess_queue._platform import shared_memory
from shared_multiprocess_queue._ring.layout import SLOTS_START, VERSION
from tests.support.places import SHM
from tests.support.segments import attach, create, slow_creator
from tests.support.waiting import LONG

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]

MOMENTS = 12
"""More than a look has system calls that tell of a file."""


def by_attaching(run_id: str) -> None:
    with attach(run_id, timeout=LONG) as q:
        assert q.capacity == 3


def by_opening(run_id: str) -> None:
    with create(run_id, exist_ok=True) as q:
        assert q.capacity == 3


def check_found(queue: QueueFile) -> None:
    assert queue.state in ("unfinished", "ok"), queue.why
    if queue.state == "ok":
        assert (queue.in_use, queue.layout) == (True, VERSION)
        assert queue.size > SLOTS_START


def by_inspecting(run_id: str) -> None:
    check_found(inspect("q", run_id))


def by_listing(run_id: str) -> None:
    (queue,) = list_queues(f"{run_id}-*")
    check_found(queue)


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("where", ["before its size", "before its memory"])
@pytest.mark.parametrize("look", [by_attaching, by_opening, by_inspecting, by_listing])
def test_no_look_sees_half_of_a_creation(
    run_id: str, monkeypatch: pytest.MonkeyPatch, look: Callable[[str], None], where: str, moment: int
) -> None:
    with ExitStack() as looks, slow_creator(run_id, monkeypatch, where) as go_on:
        count = 0
        users: list[SharedMemoryQueue] = []  # from the end of the creation on

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **keywords: Any) -> Any:
                nonlocal count
                found = real(*arguments, **keywords)
                count += 1
                if count == moment + 1:
                    go_on()
                    users.append(attach(run_id))
                return found

            return call

        patch = looks.enter_context(pytest.MonkeyPatch.context())
        for name in ("fstat", "pread"):
            patch.setattr(os, name, counted(getattr(os, name)))
        look(run_id)
        patch.undo()
        if count <= moment:
            go_on()
    for user in users:
        user.close()
    with attach(run_id) as q:
        assert q.get() == "made in the end"
        q.unlink()


def test_a_segment_that_a_program_empties_meanwhile_is_an_error(
    run_id: str, path: Path, lock_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(run_id).close()
    real = shared_memory._Descriptor.is_unfinished

    def empty(descriptor: Any) -> bool:
        found = real(descriptor)
        os.truncate(path, 0)
        return found

    monkeypatch.setattr(shared_memory._Descriptor, "is_unfinished", empty)
    with pytest.raises(QueueNotReadyError):
        attach(run_id, timeout=0.05)
    path.unlink()
    lock_path.unlink()
