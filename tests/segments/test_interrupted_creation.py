"""A creation or attachment that is interrupted leaves nothing."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest

from shared_multiprocess_queue._engine import lifecycle, new_sizes
from shared_multiprocess_queue._platform import mutex, shared_memory
from shared_multiprocess_queue._ring import layout
from stress.explore import interrupts
from tests.support.descriptors import open_descriptors
from tests.support.places import SHM
from tests.support.segments import MARK, create, remove, segments_of, works
from tests.support.steps import SPARSE

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


T = TypeVar("T")


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_create_that_is_interrupted_leaves_nothing(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, function in (
        (os, "ftruncate"),
        (os, "posix_fallocate"),
        (lifecycle, "_number_slots"),
        (lifecycle, "open_lock"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, function, interrupt)
            with pytest.raises(KeyboardInterrupt):
                create(run_id)
        assert segments_of(run_id) == set(), function
    remove(create(run_id))


class Interrupter(interrupts.Interrupter):
    """Raises no KeyboardInterrupt in a ``__del__``, from where Python lets none out."""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code.co_name == "__del__":
                return None
            caller = caller.f_back
        return super().__call__(frame, event, argument)


def points(operation: Callable[[], T], undo: Callable[[T], object], every: int) -> Iterator[str]:
    """Interrupt an operation at its point 0, every, 2 * every, ... until it is completed; yield where after each."""
    for point in itertools.count(0, every):
        interrupter = Interrupter(point)
        interrupts.watch(interrupter)
        try:
            result = operation()
        except KeyboardInterrupt:
            result = None
        finally:
            interrupts.watch(None)
        where = interrupter.where
        del interrupter
        gc.collect()  # it and the frames that it knew, with what they refer to
        if result is not None:
            assert not where, f"the interrupt at {where} was swallowed"
            assert point > 50, "hardly any points: nothing was tested"
            undo(result)
            return
        yield where


@SPARSE
@pytest.mark.parametrize("leftover", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_interrupt_at_any_point_of_create_leaves_nothing(
    run_id: str, path: Path, leftover: bool, every: int
) -> None:
    wanted = new_sizes.geometry(3, 64, "mpmc")
    before = open_descriptors()

    def create_here() -> tuple[shared_memory.Segment, mutex.LockFlag]:
        if leftover:
            path.write_bytes(MARK)
        return lifecycle.create("q", run_id, wanted)

    for where in points(create_here, lambda made: lifecycle.discard(*made, "q", run_id), every):
        left = segments_of(run_id)
        if leftover and left == {path.name}:  # interrupted before it was looked at
            assert path.read_bytes() == MARK
            path.unlink()
            left.clear()
        assert left == set(), f"interrupted at {where}"
        assert open_descriptors() <= before, f"interrupted at {where}"


@SPARSE
def test_an_interrupt_at_any_point_of_attach_keeps_nothing_open(run_id: str, every: int) -> None:
    q = create(run_id)
    before = open_descriptors()

    def close(attached: tuple[shared_memory.Segment, layout.Geometry, mutex.LockFlag]) -> None:
        segment, _, lock = attached
        lock.close()
        segment.close()

    for where in points(lambda: lifecycle.attach("q", run_id), close, every):
        assert open_descriptors() <= before, f"interrupted at {where}"
    assert works(q)
    remove(q)


def test_a_discarded_queue_is_gone_although_a_view_refers_to_it(run_id: str, no_leaks: None) -> None:
    """A view of its memory keeps the memory, and not the name."""
    segment, lock = lifecycle.create("q", run_id, new_sizes.geometry(3, 64, "mpmc"))
    view = segment.buffer[:8]
    lifecycle.discard(segment, lock, "q", run_id)
    assert segments_of(run_id) == set()
    view.release()


def test_a_create_that_fails_leaves_another_segment_of_its_name(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another segment got the name meanwhile."""

    def lose_the_name(*_: object) -> None:
        path.unlink()
        path.write_bytes(b"another's")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "_number_slots", lose_the_name)
        with pytest.raises(KeyboardInterrupt):
            create(run_id)
    assert path.read_bytes() == b"another's"
    path.unlink()


def test_a_view_that_is_left_on_the_memory_does_not_hide_the_interrupt(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    views: list[memoryview] = []

    def keep_a_view(segment: shared_memory.Segment, _: object) -> None:
        views.append(segment.buffer.cast("Q"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "_number_slots", keep_a_view)
        with pytest.raises(KeyboardInterrupt):
            create(run_id)
    assert segments_of(run_id) == set()
    views.pop().release()


def test_a_segment_may_be_closed_again_or_not_at_all(run_id: str, no_leaks: None) -> None:
    """It is closed with the last reference."""
    q = create(run_id)
    segment = shared_memory.open_existing(f"{run_id}-q-queue")
    view = segment.buffer[:8]
    segment.close()
    segment.close()
    assert len(bytes(view)) == 8, "the memory stays for as long as somebody refers to it"
    view.release()
    segment = shared_memory.open_existing(f"{run_id}-q-queue")
    view = segment.buffer[:8]
    del segment  # in silence
    del view
    remove(q)
