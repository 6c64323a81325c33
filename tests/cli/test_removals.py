"""shmq rm and gc remove nothing that is used."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shared_multiprocess_queue import QueueNotFoundError, SharedMemoryQueue, inspect
from shared_multiprocess_queue._platform import processes, shared_memory, use_lock
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.cli import output, removals
from shared_multiprocess_queue.looking.files import inspected
from stress.hostile import staging
from tests.support.children import end_of, fork
from tests.support.damage import poke
from tests.support.demo import COMMAND
from tests.support.places import SHM
from tests.support.queues import MakeQueue
from tests.support.segments import attach, create, segments_of, works
from tests.support.shmq import shmq, shmq_json
from tests.support.waiting import LONG, eventually, over_after

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def leave(run_id: str, *items: object) -> Path:
    """Make a queue that has items and no user; return its file."""
    with create(run_id) as q:
        q.put_batch(items)
    return SHM / f"{run_id}-q-queue"


def leave_letters(run_id: str, count: int) -> SharedMemoryQueue:
    """Make a queue with dead letters."""
    q = create(run_id, leases=2, max_deliveries=1)
    for _ in range(count):
        q.put("bad")
        q.lease(block=False).release()
    return q


# ---- rm -------------------------------------------------------------------------------------------------------------


def test_rm_removes_what_is_not_used_without_a_question(run_id: str) -> None:
    leave(run_id, 1, 2)
    assert shmq("rm", f"{run_id}-q") == (0, "", f"{run_id}-q is removed, and had 2 items\n")
    assert segments_of(run_id) == set()
    assert shmq("rm", f"{run_id}-q").code == 3
    leave(run_id)
    assert shmq("rm", f"{run_id}-q") == (0, "", "")
    leave(run_id)
    assert shmq_json("rm", "q", "--run-id", run_id)["removed"] == ["q"]


def test_rm_tells_how_many_items_and_dead_letters_a_queue_has(run_id: str) -> None:
    with leave_letters(run_id, 2) as q:
        q.put(1)
        assert ", and has 1 item and 2 dead letters. Remove it" in shmq("rm", f"{run_id}-q", answer="n\n").errors
    code, output, _ = shmq("rm", "--json", f"{run_id}-q")
    assert code == 0
    assert json.loads(output)["lost"] == [{"name": f"{run_id}-q", "items": 1, "dead_letters": 2}]
    leave_letters(run_id, 1).close()
    assert shmq("rm", f"{run_id}-q").errors == f"{run_id}-q is removed, and had 1 dead letter\n"


def test_rm_of_several_goes_on_after_an_error(run_id: str) -> None:
    leave(run_id)
    code, _, errors = shmq("rm", f"{run_id}-none", f"{run_id}-q")
    assert code == 3
    assert f"{run_id}-none" in errors
    assert segments_of(run_id) == set()


def test_rm_of_several_goes_on_after_a_no(make_queue: MakeQueue, run_id: str) -> None:
    make_queue("a")
    with make_queue("b"):
        pass
    code, output, errors = shmq("rm", "--json", f"{run_id}-a", f"{run_id}-b", answer="n\n")
    assert code == 1
    assert json.loads(output)["removed"] == [f"{run_id}-b"]
    assert f"{run_id}-a stays" in errors
    assert shmq("rm", f"{run_id}-b").errors.startswith("Error: there is no queue")


def test_an_interrupt_at_a_question_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupted)
    with pytest.raises(SystemExit) as caught:
        output.ask("Is it so?")
    assert caught.value.code == 128 + signal.SIGINT


def test_force_removes_also_what_is_attached_to_after_the_look(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(run_id)
    found = inspect("q", run_id)
    monkeypatch.setattr(removals, "inspect", lambda *_: found)
    with attach(run_id):
        assert shmq("rm", "--force", f"{run_id}-q").code == 0
    assert segments_of(run_id) == set()


def test_rm_asks_if_a_process_uses_the_queue(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue()
    code, output, errors = shmq("rm", f"{run_id}-q", answer="n\n")
    assert (code, output) == (1, "")
    assert f"is used by process {os.getpid()}" in errors
    assert shmq("rm", f"{run_id}-q").code == 1, "no answer is no"
    assert q._membership.segment.has_name()
    assert shmq("rm", f"{run_id}-q", answer="y\n").code == 0
    assert not q._membership.segment.has_name()
    make_queue("other")
    assert shmq("rm", "--force", f"{run_id}-other") == (0, "", "")


def test_rm_of_a_queue_that_is_attached_to_after_the_look(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(run_id)
    attached: list[SharedMemoryQueue] = []

    def late(name: str, run_id_: str = "", force: bool = False) -> None:
        attached.append(attach(run_id))
        remove(name, run_id_, force=force)

    remove = SharedMemoryQueue.remove
    monkeypatch.setattr(SharedMemoryQueue, "remove", staticmethod(late))
    code, _, errors = shmq("rm", f"{run_id}-q")
    assert code == 1
    assert "is used by process" in errors
    with attached.pop() as q:
        assert works(q)
        q.unlink()


def test_rm_of_a_queue_that_is_replaced_while_it_asks(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = create(run_id)

    def replace(question: str) -> None:
        first.unlink()
        leave(run_id, "an item that nobody was asked about")

    monkeypatch.setattr(removals, "ask", replace)
    code, _, errors = shmq("rm", f"{run_id}-q")
    assert code == 1
    assert "is another queue by now, and stays" in errors
    first.close()
    with attach(run_id) as q:
        assert q.qsize() == 1
        q.unlink()


def test_rm_never_removes_what_is_no_queue(run_id: str) -> None:
    path = SHM / f"{run_id}-q-queue"
    path.write_bytes(b"data of another program" * 1000)
    try:
        for options in ([], ["--force"]):
            code, _, errors = shmq("rm", *options, f"{run_id}-q")
            assert code == 5
            assert "is no queue, and stays" in errors
        assert path.exists()
    finally:
        path.unlink()


@pytest.mark.parametrize("offset", [layout.CAPACITY_AT, layout.VERSION_AT], ids=["damaged", "layout"])
def test_rm_asks_before_it_removes_a_queue_that_it_cannot_read(run_id: str, offset: int) -> None:
    path = leave(run_id, 1)
    poke(path, offset, b"\7")
    code, _, errors = shmq("rm", f"{run_id}-q", answer="n\n")
    assert code == 1
    assert "may hold items" in errors
    assert shmq("rm", f"{run_id}-q", answer="y\n").code == 0
    assert segments_of(run_id) == set()


# ---- gc -------------------------------------------------------------------------------------------------------------


def test_gc_asks_and_tells_what_would_be_lost(run_id: str) -> None:
    leave(run_id, 1, 2)
    _, output, errors = shmq("gc", "--dry-run", f"{run_id}-*")
    assert output.splitlines()[-1].split()[:2] == [f"{run_id}-q", "2"]
    assert errors == ""
    code, _, errors = shmq("gc", f"{run_id}-*", answer="n\n")
    assert code == 1
    assert "Remove 1 queue?" in errors
    assert len(segments_of(run_id)) == 2
    assert shmq("gc", f"{run_id}-*", answer="y\n").output.endswith("1 queue removed\n")
    assert segments_of(run_id) == set()
    assert shmq("gc", f"{run_id}-*") == (0, "no queue without a user\n0 queues removed\n", "")


def test_gc_without_a_question_leaves_items(run_id: str) -> None:
    leave(run_id, 1)
    found = shmq_json("gc", "--yes", f"{run_id}-*")
    assert ([queue["name"] for queue in found["found"]], found["removed"]) == ([f"{run_id}-q"], [])
    assert "1 queue left, because of the items" in shmq("gc", "--yes", f"{run_id}-*").output
    assert shmq_json("gc", "--yes", "--with-items", f"{run_id}-*")["removed"] == [f"{run_id}-q"]
    leave(run_id)
    assert shmq_json("gc", "--yes", f"{run_id}-*")["removed"] == [f"{run_id}-q"]


def test_gc_without_a_question_leaves_dead_letters(run_id: str) -> None:
    with leave_letters(run_id, 1):
        assert shmq_json("gc", "--yes", "--with-items", f"{run_id}-*")["found"] == []  # it is used
    assert f"{run_id}-q has 1 dead letter\n" in shmq("gc", "--dry-run", f"{run_id}-*").output
    assert shmq_json("gc", "--yes", f"{run_id}-*")["removed"] == []
    with attach(run_id) as q:
        assert [letter.item for letter in q.dead_letters()] == ["bad"]
    assert shmq_json("gc", "--yes", "--with-items", f"{run_id}-*")["removed"] == [f"{run_id}-q"]


@pytest.mark.parametrize("leases", [0, 1])
@pytest.mark.parametrize("seems_alive", [False, True])
def test_gc_without_a_question_leaves_what_a_get_had(run_id: str, leases: int, seems_alive: bool) -> None:
    """It has claimed the item, so the queue has none by its positions; the next get would find it."""
    with create(run_id, leases=leases, engine="atomics") as q:
        stage = staging.Stage(q)
        stage.place(6, 1)
        stage.write(layout.HEAD, 7)
        stage.participant(get_begin=6, get_end=7, alive=seems_alive)
        assert (q.qsize(), q.empty()) == (0, seems_alive)
    found = shmq_json("gc", "--yes", f"{run_id}-*")
    assert (len(found["found"]), found["removed"]) == (1, [])
    assert shmq("wait", f"{run_id}-q", "--empty", "--timeout", 0).code == (0 if seems_alive else 1)
    SharedMemoryQueue.remove("q", run_id)


def test_gc_takes_what_is_old_enough(run_id: str) -> None:
    path = leave(run_id)
    assert shmq_json("gc", "--yes", "--older-than", "1h", f"{run_id}-*")["found"] == []
    assert shmq("gc", "--older-than", "1h", f"{run_id}-*").output.splitlines() == [
        "no queue without a user is old enough",
        "1 queue without a user left, because of --older-than",
        "0 queues removed",
    ]
    created = struct.unpack_from("=Q", path.read_bytes(), layout.CREATED_AT)[0]
    poke(path, layout.CREATED_AT, struct.pack("=Q", created - 3601 * 10**9))
    assert len(shmq_json("gc", "--yes", "--older-than", "1h", f"{run_id}-*")["removed"]) == 1
    assert shmq("gc", "--older-than", "1 week", f"{run_id}-*").code == 2


def test_gc_takes_what_seems_to_be_of_the_future(run_id: str) -> None:
    """The clock was set back; only --older-than asks for an age."""
    path = leave(run_id)
    created = struct.unpack_from("=Q", path.read_bytes(), layout.CREATED_AT)[0]
    poke(path, layout.CREATED_AT, struct.pack("=Q", created + 3600 * 10**9))
    assert shmq_json("gc", "--yes", "--older-than", "1s", f"{run_id}-*")["removed"] == []
    assert shmq_json("gc", "--yes", f"{run_id}-*")["removed"] == [f"{run_id}-q"]


def used_by_a_handle(run_id: str) -> Iterator[None]:
    with create(run_id) as q:
        yield
        assert works(q)
        q.unlink()


def used_by_a_forked_child(run_id: str) -> Iterator[None]:
    """It has not used its handle yet, so no record names it, and its parent has closed its own."""
    q = create(run_id)
    child = fork(signal.pause)
    q.close()
    yield from ended(child)


def used_by_a_stopped_process(run_id: str) -> Iterator[None]:

    def makes_and_waits() -> None:
        q = create(run_id)
        signal.pause()
        q.close()

    child = fork(makes_and_waits)
    eventually(lambda: len(segments_of(run_id)) == 2, "the queue")
    eventually(lambda: inspect("q", run_id).state == "ok", "the end of its creation")
    os.kill(child, signal.SIGSTOP)
    yield from ended(child)


def ended(child: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


USERS = [used_by_a_handle, used_by_a_forked_child, used_by_a_stopped_process]


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
@pytest.mark.parametrize("is_seen", [True, False])
def test_gc_never_removes_a_queue_that_is_used(
    run_id: str, user: Callable[[str], Iterator[None]], is_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither if the look says so, nor if it does not, because the user comes after it."""
    if not is_seen:
        monkeypatch.setattr(removals, "_is_unused", lambda queue: True)
    for _ in user(run_id):
        answer = shmq("gc", "--yes", "--with-items", f"{run_id}-*")
        assert answer.output.splitlines()[-1] == "0 queues removed"
        assert answer.code == (0 if is_seen else 1)
        assert len(segments_of(run_id)) == 2
    SharedMemoryQueue.remove("q", run_id, missing_ok=True)


OTHER_NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]


def has_namespaces() -> bool:
    try:
        return subprocess.run([*OTHER_NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_gc_in_another_pid_namespace_leaves_what_is_used_here(run_id: str) -> None:
    """From there no process of here can be seen, and no death either."""
    if not has_namespaces():
        pytest.skip("this user cannot make a pid namespace")
    command = [*OTHER_NAMESPACE, *COMMAND, "gc", "--yes", "--with-items", f"{run_id}-*"]

    def collect() -> str:
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=True).stdout

    with create(run_id) as q:
        assert collect().endswith("0 queues removed\n")
        assert works(q)
    assert collect().endswith("1 queue removed\n")
    assert segments_of(run_id) == set()


def test_gc_asks_about_what_it_has_shown_also_with_json(run_id: str) -> None:
    leave(run_id, 1)
    code, output, errors = shmq("gc", "--json", f"{run_id}-*", answer="y\n")
    assert code == 0
    assert errors.index(f"{run_id}-q") < errors.index("Remove 1 queue?")
    assert json.loads(output)["removed"] == [f"{run_id}-q"]


def test_gc_goes_by_the_lock_and_not_by_the_records(run_id: str) -> None:
    """Records of live processes, and of another pid namespace, but no process has it mapped."""
    with create(run_id) as q:
        stage = staging.Stage(q)
        stage.participant(3, alive=True)
        stage.write(layout.record_at(4) + layout.OWNER, layout.owner_of(77, 1, 5))
        stage.write(layout.RECORDS_USED_AT, 5)
    (queue,) = shmq_json("ls", f"{run_id}-*")["queues"]
    assert {one["state"] for one in queue["look"]["processes"]} == {"alive", "unknown"}
    assert len(shmq_json("gc", "--yes", f"{run_id}-*")["removed"]) == 1


def test_gc_leaves_a_queue_into_which_an_item_came_after_the_look(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its user has come and gone between the list and the removal, even in the midst of that."""
    leave(run_id)
    take = use_lock.take_alone

    def late(descriptor: int) -> bool:
        with attach(run_id) as q:
            q.put("an item that nobody was told of")
        return take(descriptor)

    monkeypatch.setattr(use_lock, "take_alone", late)
    code, output, errors = shmq("gc", "--yes", f"{run_id}-*")
    assert (code, output.splitlines()[-1]) == (1, "0 queues removed")
    assert "stays" in errors
    with attach(run_id) as q:
        assert q.get_nowait() == "an item that nobody was told of"
        q.unlink()


def test_gc_takes_leftovers_and_not_what_is_being_made(run_id: str) -> None:
    path = SHM / f"{run_id}-q-queue"
    path.write_bytes(bytes(shared_memory.MARK_AT) + shared_memory.MARK + bytes(5000))
    with path.open("rb") as creator:
        fcntl.flock(creator, fcntl.LOCK_EX)
        assert shmq("gc", "--yes", f"{run_id}-*").output.endswith("0 queues removed\n")
    assert path.exists()
    assert shmq_json("gc", "--yes", f"{run_id}-*")["removed"] == [f"{run_id}-q"]


def test_gc_of_another_layout_needs_to_see_all_processes(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layout 1 has no lock of use."""
    path = leave(run_id)
    poke(path, layout.VERSION_AT, b"\1")
    with monkeypatch.context() as patch:
        patch.setattr(processes, "that_map", lambda *_: ([], 1))
        assert shmq_json("gc", "--yes", "--with-items", f"{run_id}-*")["found"] == []
    monkeypatch.setattr(processes, "that_map", lambda *_: ([], 0))
    assert shmq_json("gc", "--yes", f"{run_id}-*")["removed"] == [], "items may be in it"
    assert len(shmq_json("gc", "--yes", "--with-items", f"{run_id}-*")["removed"]) == 1


@pytest.mark.slow
def test_nobody_is_given_a_queue_that_gc_removes(run_id: str) -> None:
    """Processes make, attach and collect at once; each that got a queue has one that is found, or is told the truth."""
    stop, may_stop = os.pipe()
    os.set_blocking(stop, False)
    removed, counted = os.pipe()

    def is_over() -> bool:
        try:
            return bool(os.read(stop, 1))
        except BlockingIOError:
            return False

    def makes() -> None:
        while not is_over():
            with create(run_id, exist_ok=True) as q:
                q.put_nowait("an item") if q.empty() else q.get_nowait()

    def attaches() -> None:
        times = 0
        while not is_over():
            try:
                q = attach(run_id)
            except QueueNotFoundError as error:
                assert "incomplete" not in str(error)  # noqa: PT017
                continue
            for _ in range(20):
                assert q._membership.segment.has_name()
            q.close()
            times += 1
        assert times > 5

    def collects() -> None:
        while not is_over():
            with suppress(QueueNotFoundError):
                queue = inspected("q", run_id, mapped=False)
                if queue.in_use is False and removals._collect(queue):
                    os.write(counted, b"x")

    children = [fork(work) for work in (makes, attaches, collects, collects)]
    try:
        os.close(counted)
        eventually(over_after(3.0), "the time")
        os.write(may_stop, b"x" * 4)
        assert [end_of(child) for child in children] == [0] * 4
        assert os.read(removed, 1), "no queue was collected"
    finally:
        for descriptor in (stop, may_stop, removed):
            os.close(descriptor)
    SharedMemoryQueue.remove("q", run_id, missing_ok=True)
    assert segments_of(run_id) == set()
