"""What a handle looks at writes no byte and takes no record."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from shared_multiprocess_queue import (
    QueueClosedError,
    QueueExistsError,
    SharedMemoryQueue,
    TooManyParticipantsError,
)
from shared_multiprocess_queue._engine.contract import EngineName
from shared_multiprocess_queue._platform import atomic_words
from shared_multiprocess_queue._ring import layout
from stress.hostile import staging
from tests.support.children import in_child
from tests.support.looks import answers, path_of
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, eventually, in_thread

# ---- the looks of a handle ------------------------------------------------------------------------------------------

LOOKS: dict[str, Callable[[SharedMemoryQueue], object]] = {
    "qsize": lambda q: q.qsize(),
    "empty": lambda q: q.empty(),
    "full": lambda q: q.full(),
    "repr": repr,
    "get_metrics": lambda q: q.get_metrics(),
}


@pytest.mark.parametrize("state", staging.STATES)
def test_a_handle_that_looks_writes_no_byte(make_queue: MakeQueue, each_engine: str, state: str) -> None:
    q = make_queue(capacity=3)
    staging.STATES[state](staging.Stage(q), Random(5))
    before = bytes(q._membership.segment.buffer)
    for name, look in LOOKS.items():
        look(q)
        assert bytes(q._membership.segment.buffer) == before, name


def test_looks_need_no_record(make_queue: MakeQueue, each_engine: str) -> None:
    """All other records are taken, and the handle's own is that of a get that waits."""
    q = make_queue(capacity=3)
    stage = staging.Stage(q)
    waiting = in_thread(q.get)
    eventually(lambda: stage.word(layout.GET_WAITS_AT), "its sleep")
    filled = [index for index in range(layout.RECORDS) if not stage.word(layout.record_at(index) + layout.OWNER)]
    for index in filled:
        stage.participant(index, alive=True)
    try:
        with pytest.raises(TooManyParticipantsError):
            q.put("no record is left for this")
        metrics = q.get_metrics()
        assert metrics["participants"] == {os.getpid(): layout.RECORDS}
        assert (metrics["queue_size"], metrics["blocked_by"]) == (0, [])
        assert (q.qsize(), q.empty(), q.full()) == (0, True, False)
    finally:
        for index in filled:
            stage.write(layout.record_at(index) + layout.OWNER, 0)
    q.put("end")
    assert waiting.result(LONG) == "end"


def test_a_creator_that_finds_the_name_taken_only_looks(make_queue: MakeQueue, run_id: str) -> None:
    """A process of a pid namespace that the header does not know yet."""
    q = make_queue()
    staging.Stage(q).write(layout.NAMESPACES_AT, 0)
    before = bytes(q._membership.segment.buffer)
    with pytest.raises(QueueExistsError, match=f"used by process {os.getpid()}"):
        SharedMemoryQueue("q", create=True, run_id=run_id)
    assert bytes(q._membership.segment.buffer) == before


def test_a_forked_child_that_only_looks_takes_no_record(make_queue: MakeQueue, each_engine: EngineName) -> None:
    q = make_queue(engine=each_engine)
    q.put(1)
    before = bytes(q._membership.segment.buffer)

    def child() -> None:
        assert (q.qsize(), q.empty(), q.full()) == (1, False, False)
        assert set(q.get_metrics()["participants"]) == {os.getppid()}
        assert bytes(q._membership.segment.buffer) == before

    assert in_child(child) == 0
    reading, writing = os.pipe()
    done, finished = os.pipe()

    def parent() -> None:
        inherited = SharedMemoryQueue("q", run_id=q.run_id, engine=each_engine)
        me = os.getpid()
        if os.fork() == 0:
            status = b"?"
            with suppress(Exception):
                os.read(reading, 1)
                participants = inherited.get_metrics()["participants"]
                status = b"y" if me not in participants else b"n"
            os.write(finished, status)
            os._exit(0)

    assert in_child(parent) == 0
    os.write(writing, b"x")
    assert os.read(done, 1) == b"y"
    for descriptor in (reading, writing, done, finished):
        os.close(descriptor)


@pytest.mark.parametrize("is_ordered", [True, False])
def test_a_look_keeps_its_memory_while_the_handle_is_closed(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch, is_ordered: bool
) -> None:
    """On processors whose plain loads are in no order it reads by other loads, and is as safe."""
    if not is_ordered:
        monkeypatch.setattr(atomic_words, "_PLAIN_IS_ORDERED", False)
    q = make_queue(engine="atomics")
    q.put(1)
    look = q._membership.look()
    mapped = path_of(q).name
    q.unlink()
    q.close()
    assert answers(look) == (1, False, False)
    assert mapped in Path("/proc/self/maps").read_text()
    del look
    assert mapped not in Path("/proc/self/maps").read_text()
    with pytest.raises(QueueClosedError):
        q._membership.look()
    with pytest.raises(QueueClosedError):
        q.qsize()
