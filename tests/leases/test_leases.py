"""lease, get, task_done and join of a queue with leases."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Callable

import pytest

from shared_multiprocess_queue import (
    DeserializationError,
    Empty,
    Lease,
    LeaseLostError,
    LeasesHeldError,
    LeasesRequiredError,
    QueueMismatchError,
    SharedMemoryQueue,
)
from stress.codec.likeness import alike
from stress.codec.writer import write
from tests.support.everyday import EXAMPLES, put_payload
from tests.support.queues import MakeQueue


def test_a_lease_has_the_item_until_it_is_done(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("job")
    with q.lease() as lease:
        assert (lease.item, lease.deliveries) == ("job", 1)
        assert q.qsize() == 0
        assert q.empty()
        assert not q.join(0)
    assert q.join(0)
    with pytest.raises(Empty):
        q.lease(block=False)


@pytest.mark.parametrize("item", EXAMPLES)
def test_everyday_objects_are_leased_as_they_were_put(make_leased: MakeQueue, item: object) -> None:
    q = make_leased()
    q.put_batch([item] * 3)
    with q.lease() as lease:
        assert alike(lease.item, item)
        assert lease.item is not lease.item
        is_plain = q.engine == "native"
        assert is_plain == (lease.raw == write(item, 4096))
    assert alike(q.get_batch(2), [item, item])
    q.task_done()
    q.task_done()


def test_a_damaged_everyday_object_is_an_error_of_its_lease(make_leased: MakeQueue, run_id: str) -> None:
    q = make_leased()
    with SharedMemoryQueue("q", run_id=run_id, engine="atomics") as writer:
        put_payload(writer, b"\xd2\x01")
    with q.lease() as lease:
        assert lease.raw == b"\xd2\x01"
        with pytest.raises(DeserializationError, match="damaged"):
            _ = lease.item


def test_an_exception_gives_the_item_back_behind_the_others(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch(["bad", "good"])
    with pytest.raises(ZeroDivisionError), q.lease():
        raise ZeroDivisionError
    assert q.qsize() == 2
    with q.lease() as lease:
        assert (lease.item, lease.deliveries) == ("good", 1)
    with q.lease() as lease:
        assert (lease.item, lease.deliveries) == ("bad", 2)
    assert q.join(0)


def test_the_only_lease_is_not_kept_by_what_goes_last(make_leased: MakeQueue) -> None:
    q = make_leased(leases=1)
    q.put_batch(["bad", "good"])
    q.lease().release(last=True)
    with q.lease(block=False) as lease:
        assert (lease.item, lease.deliveries) == ("bad", 2)
    assert q.get(block=False) == "good"


def test_what_was_released_comes_first(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch([0, 1, 2])
    first, second = q.lease_batch(2)
    second.release()
    first.release()
    assert q.qsize() == 3
    assert [lease.item for lease in q.lease_batch(2)] == [0, 1]


def test_a_delayed_release_comes_no_earlier(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("later")
    lease = q.lease()
    lease.release(delay=30)
    assert q.qsize() == 1
    assert q.empty()
    with pytest.raises(Empty):
        q.lease(timeout=0.3)
    assert not q.join(0)
    q.put("now")
    lease = q.lease(timeout=5)
    lease.release(delay=0.05)
    assert q.lease(timeout=30).item == "now"


def test_a_queue_whose_leases_all_wait_for_a_time_is_empty(make_leased: MakeQueue) -> None:
    q = make_leased(leases=1)
    q.put("later")
    q.lease().release(delay=30)
    assert q.empty()
    with pytest.raises(Empty):
        q.get_nowait()


def test_get_leases_to_the_thread(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch([1, 2, 3])
    assert (q.get(), q.get()) == (1, 2)
    for call in (q.get, q.get_nowait, q.lease, lambda: q.get_batch(2)):
        with pytest.raises(LeasesHeldError, match="all 2 leases"):
            call()
    q.task_done()
    assert q.get() == 3
    q.task_done()
    q.task_done()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()
    assert q.join(0)


def test_task_done_ends_the_oldest(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch(["a", "b"])
    assert q.get_batch(2) == ["a", "b"]
    q.task_done()
    assert [one["position"] for one in q.get_metrics()["leased"]] == [1]


def test_a_batch_takes_no_more_than_there_are_leases(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch([1, 2, 3])
    assert q.get_batch(3) == [1, 2]
    q.task_done()
    q.task_done()
    assert q.get_batch(3) == [3]


def test_a_get_waits_for_a_lease(make_leased: MakeQueue) -> None:
    q = make_leased(leases=1)
    q.put_batch(["mine", "theirs"])
    lease = q.lease()
    found: list[object] = []

    def consume() -> None:
        found.append(q.get(timeout=60))
        q.task_done()

    thread = threading.Thread(target=consume)
    thread.start()
    with pytest.raises(Empty):
        q.lease(timeout=0.2)
    assert not found
    lease.done()
    thread.join()
    assert found == ["theirs"]
    assert q.get_metrics()["lease_waits"] > 0


def test_join_waits_for_what_is_processed(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("job")
    lease = q.lease()
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(q.join(60)))
    thread.start()
    assert not q.join(0.2)
    assert not ended
    lease.done()
    thread.join()
    assert ended == [True]


def test_a_lease_ends_once(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch([1, 2])
    lease = q.lease()
    lease.done()
    for end in (lease.done, lease.release):
        with pytest.raises(LeaseLostError, match="is over"):
            end()
    again = q.lease()  # in the same lease slot, perhaps
    with pytest.raises(LeaseLostError, match="is over"):
        lease.done()
    again.done()
    assert q.join(0)


@pytest.mark.parametrize("end", [Lease.done, Lease.release])
def test_the_block_accepts_a_lease_that_was_ended_in_it(make_leased: MakeQueue, end: Callable[[Lease], None]) -> None:
    q = make_leased()
    q.put(1)
    with q.lease() as lease:
        end(lease)
    with pytest.raises(KeyError), q.lease(timeout=0) if end is Lease.release else lease:
        raise KeyError


def test_release_refuses_what_cannot_be(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put(1)
    with q.lease() as lease:
        for arguments in ({"delay": -1}, {"delay": float("nan")}, {"delay": 1e10}, {"delay": 1, "last": True}):
            with pytest.raises(ValueError, match="delay"):
                lease.release(**arguments)
        with pytest.raises(TypeError):
            lease.release(delay="soon")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"'delay' must be a non-negative number of seconds, not -1$"):
            lease.release(delay=-1)


def test_a_lease_is_not_pickled(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put(1)
    with q.lease() as lease, pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(lease)


def test_a_pickled_handle_has_the_leases_of_the_queue_and_none_of_its_own(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put(1)
    assert q.get() == 1
    with pickle.loads(pickle.dumps(q)) as other:
        assert other.leases == 2
        with pytest.raises(ValueError, match="too many times"):
            other.task_done()
    q.task_done()


def test_a_temporary_lease_comes_back_with_a_warning(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("item")
    with pytest.warns(ResourceWarning, match="dropped without done"):
        assert q.lease().item == "item"
    with q.lease() as lease:
        assert lease.deliveries == 2


def test_the_leases_of_a_thread_come_back_at_its_end(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("item")

    def run_a_thread() -> None:
        thread = threading.Thread(target=q.get)
        thread.start()
        thread.join()

    with pytest.warns(ResourceWarning, match="a thread ended without task_done"):
        run_a_thread()
    assert q.get(timeout=60) == "item"
    q.task_done()


def test_closing_gives_leases_back(make_leased: MakeQueue) -> None:
    q = make_leased(leases=3)
    q.put_batch([1, 2, 3])
    other = SharedMemoryQueue("q", run_id=q.run_id)
    lease = other.lease()
    assert other.get() == 2
    other.close()
    for end in (lease.done, lease.release):
        with pytest.raises(LeaseLostError, match="when its handle was closed"):
            end()
    assert [(lease.item, lease.deliveries) for lease in q.lease_batch(3)] == [(1, 2), (2, 2)]


def test_an_open_lease_keeps_its_handle(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("item")
    lease = SharedMemoryQueue("q", run_id=q.run_id).lease()
    gc.collect()
    assert lease.item == "item"
    lease.done()
    assert q.join(0)


class Poisonous:
    def __reduce__(self) -> tuple[object, ...]:
        return int, ("poison",)


def test_a_lease_tells_of_an_item_before_it_is_deserialised(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put(Poisonous())
    with q.lease() as lease:
        assert lease.deliveries == 1
        assert lease.raw
        with pytest.raises(DeserializationError):
            _ = lease.item
        assert not q.join(0)
    assert q.join(0)


def test_get_ends_what_cannot_be_deserialised(make_leased: MakeQueue) -> None:
    q = make_leased(leases=3)
    q.put_batch([1, Poisonous(), 2])
    assert q.get_batch(3) == [1]
    with pytest.raises(DeserializationError):
        q.get_batch(3)
    assert q.get_batch(3) == [2]
    q.task_done()
    q.task_done()
    assert q.join(0)


def test_an_item_of_the_whole_size_survives_a_release(make_leased: MakeQueue) -> None:
    q = make_leased(item_size=1000)
    item = bytes(range(250)) * 4
    q.put(item)
    q.lease().release()
    q.put(b"")
    assert [lease.item for lease in (q.lease(), q.lease())] == [item, b""]


def test_metrics_and_repr_tell_what_is_processed(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch([1, 2, 3])
    q.lease().release()
    q.get_batch(2)
    found = q.get_metrics()
    assert (found["leases"], found["redelivered"]) == (2, 1)
    assert [(one["position"], one["deliveries"]) for one in found["leased"]] == [(0, 2), (1, 1)] or found["leased"]
    assert all(one["seconds"] >= 0 for one in found["leased"])
    assert f"{len(found['leased'])}/2 leased" in repr(q)


def test_a_queue_of_one_consumer_has_leases_too(make_leased: MakeQueue) -> None:
    q = make_leased(mode="spsc")
    q.put_batch([1, 2])
    q.lease().release()
    assert q.get_batch(2) == [1]
    q.task_done()
    assert q.get() == 2
    q.task_done()
    assert q.join(0)


def test_laps_go_on_while_an_item_is_leased(make_leased: MakeQueue) -> None:
    q = make_leased(capacity=1)
    q.put("long")
    with q.lease() as long:
        for i in range(50):
            q.put(i)
            assert q.get() == i
            q.task_done()
        assert long.item == "long"
    assert q.join(0)


@pytest.mark.parametrize("call", ["lease", "task_done", "join"])
def test_a_queue_without_leases_says_how_to_get_them(make_queue: MakeQueue, call: str) -> None:
    q = make_queue()
    with pytest.raises(LeasesRequiredError, match="create it with leases=N") as caught:
        getattr(q, call)()
    assert isinstance(caught.value, ValueError)
    with pytest.raises(LeasesRequiredError):
        q.lease_batch(2)


@pytest.mark.parametrize("leases", [-1, 65_536, 1.5, True, None])
def test_a_number_of_leases_that_cannot_be_is_refused(make_queue: MakeQueue, leases: object) -> None:
    with pytest.raises(ValueError, match="leases must be"):
        make_queue(leases=leases)


def test_another_number_of_leases_does_not_attach(make_leased: MakeQueue) -> None:
    q = make_leased()
    with pytest.raises(QueueMismatchError, match="leases=2"):
        SharedMemoryQueue("q", run_id=q.run_id, leases=3)
