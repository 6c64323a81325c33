"""What is left of a lease when its process is killed before each single atomic step, or at any other moment."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable

import pytest

from shared_multiprocess_queue import Empty, LeaseLostError, SharedMemoryQueue
from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from shared_multiprocess_queue._engine.leasing import Leasing
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.claim import Held, held_by
from shared_multiprocess_queue._ring.leased_ring import LeasedRing
from stress.hostile import staging
from tests.support.children import end_of, fork, in_child
from tests.support.mortal import dies
from tests.support.queues import MakeQueue, let_look

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def leasing_of(engine: AtomicsEngine) -> Leasing:
    leasing = engine.membership.leasing
    assert leasing is not None
    return leasing


def take(engine: AtomicsEngine, limit: int = 1) -> list[Held]:
    try:
        return engine.get(limit, 0, lambda taken: list(map(held_by, taken)), leasing_of(engine).of_objects)
    except Empty:
        return []


def lease_two(engine: AtomicsEngine) -> None:
    take(engine, 2)


def lease_and_end(engine: AtomicsEngine) -> None:
    for held in take(engine):
        leasing_of(engine).done(leasing_of(engine).of_objects, held)


def lease_and_give_back(engine: AtomicsEngine) -> None:
    for held in take(engine):
        leasing_of(engine).give_back(leasing_of(engine).of_objects, held, last=True)


def join(engine: AtomicsEngine) -> None:
    ring = engine.membership.ring
    assert isinstance(ring, LeasedRing)
    with engine.membership.operation() as record:
        ring.is_quiet(record.words)


def put(engine: AtomicsEngine) -> None:
    engine.put((b"late", 1), 0)


def everything(q: SharedMemoryQueue) -> list[tuple[object, int]]:
    """Lease and end all that is there, or comes back from the dead."""
    found = []
    until = time.monotonic() + 60
    while not q.join(0) and time.monotonic() < until:
        let_look(q)
        try:
            with q.lease(block=False) as lease:
                found.append((lease.item, lease.deliveries))
        except Empty:
            pass
    return found


@pytest.mark.costly
@pytest.mark.parametrize(
    ("operation", "lost"), [(lease_and_end, 1), (lease_two, 0), (lease_and_give_back, 0), (join, 0)]
)
def test_no_step_at_which_a_holder_dies_loses_an_item(
    make_leased: MakeQueue, operation: Callable[[AtomicsEngine], None], lost: int
) -> None:
    """Only an item that was ended does not come again."""
    q = make_leased()
    for steps in itertools.count():
        q.put_batch([b"a", b"b"])
        has_died = dies(q.name, q.run_id, operation, steps)
        found = everything(q)
        items = sorted(str(item) for item, _ in found)
        assert items in ([["b'a'", "b'b'"], ["b'b'"]] if lost else [["b'a'", "b'b'"]]), steps
        assert all(1 <= deliveries <= 3 for _, deliveries in found)
        assert q.get_metrics()["leased"] == []
        if not has_died:
            assert steps > 2, "the operation has hardly any steps: nothing was tested"
            break


def left_half_given(make: MakeQueue, name: str, steps: int) -> tuple[SharedMemoryQueue, bool]:
    """Let a get of the only item die before a step; return the queue, and whether its slot is given and not freed."""
    q = make(name, capacity=1, leases=1)
    q.put(b"a")
    assert dies(q.name, q.run_id, lease_two, steps, counts_loads=False)
    with q._membership.operation() as record:
        return q, record.words.load(layout.SLOTS_START) & layout.STATE_MASK == layout.GIVEN


@pytest.mark.costly
@pytest.mark.parametrize("operation", [lease_and_end, put])
def test_no_step_at_which_an_heir_dies_loses_an_item(
    make_leased: MakeQueue, operation: Callable[[AtomicsEngine], None]
) -> None:
    """The heir takes over from a holder that died between taking the item and freeing its slot."""
    halfway = next(steps for steps in itertools.count() if left_half_given(make_leased, f"try{steps}", steps)[1])
    for steps in itertools.count():
        q, is_given = left_half_given(make_leased, f"q{steps}", halfway)
        assert is_given
        has_died = dies(q.name, q.run_id, operation, steps, counts_loads=False)
        found = sorted(str(item) for item, _ in everything(q))
        assert found in ([["b'a'"], []] if operation is lease_and_end else [["b'a'"], ["b'a'", "b'late'"]]), steps
        q.close()
        q.unlink()
        if not has_died:
            assert steps > 10, "the operation has hardly any steps: nothing was tested"
            break


def test_the_item_of_a_killed_worker_comes_though_never_empty(make_leased: MakeQueue) -> None:
    q = make_leased(capacity=1000)
    q.put("of the dead")

    def work() -> None:
        with q.lease():
            signal.pause()

    pid = fork(work)
    while not q.get_metrics()["leased"]:
        time.sleep(0.001)
    q.put_batch(range(900))
    os.kill(pid, signal.SIGKILL)
    assert end_of(pid) == -signal.SIGKILL
    for _ in range(900):
        with q.lease() as lease:
            time.sleep(0.002)
            if lease.item == "of the dead":
                assert lease.deliveries == 2
                return
    pytest.fail("the item has not come before all others")


def test_an_item_that_kills_tells_how_often_it_did(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("killer")

    def work() -> None:
        with q.lease(timeout=60):
            os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(3):
        assert in_child(work) == -signal.SIGKILL
        assert (q.qsize(), q.empty()) == (1, False)
    with q.lease(timeout=60) as lease:
        assert (lease.item, lease.deliveries) == ("killer", 4)


def test_all_leases_of_the_dead_come_back(make_leased: MakeQueue) -> None:
    q = make_leased(leases=2, capacity=4)
    q.put_batch([1, 2, 3])

    def work() -> None:
        with q.lease():
            os.kill(os.getpid(), signal.SIGKILL)

    for pid in [fork(work), fork(work)]:
        assert end_of(pid) == -signal.SIGKILL
    assert {item for item, _ in everything(q)} == {1, 2, 3}


def test_a_forked_child_has_no_lease_of_its_parent(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch([1, 2])
    lease = q.lease()
    assert q.get() == 2

    def child() -> None:
        for end in (lease.done, lease.release):
            with pytest.raises(LeaseLostError, match=str(os.getppid())):
                end()
        with pytest.raises(ValueError, match="too many times"):
            q.task_done()
        q.close()

    assert in_child(child) == 0
    lease.done()
    q.task_done()
    assert q.join(0)


def test_a_child_that_collects_a_lease_leaves_it_alone(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put(1)
    leases = [q.lease()]
    assert in_child(leases.clear) == 0
    leases[0].done()
    assert q.join(0)


def test_a_look_that_is_held_up_puts_off_the_next_by_little(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_queue(engine="atomics", leases=1)
    stage = staging.Stage(q)
    stage.lease(0, position=0, holder=layout.owner_of(os.getppid(), 1, 1))

    def is_alive(_: int) -> bool:
        time.sleep(0.03)  # the processor was taken away for so long
        return True

    monkeypatch.setattr(q._membership.participants, "is_alive", is_alive)
    with pytest.raises(Empty):
        q.get_nowait()
    assert 0 < stage.word(layout.LOOK_AT) <= time.monotonic_ns() + layout.LOOK_LATEST
