"""A handle keeps no descriptor, and touches none of other files."""

from __future__ import annotations

import os
import select
import sys

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue.errors import QueueClosedError
from tests.support.children import python
from tests.support.descriptors import descriptors
from tests.support.places import SHM
from tests.support.queues import MakeQueue
from tests.support.segments import segments_of
from tests.support.waiting import LONG

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def test_an_open_handle_keeps_no_descriptor(make_queue: MakeQueue, run_id: str, engines: str) -> None:
    before = descriptors()
    q = make_queue()
    other = SharedMemoryQueue("q", run_id=run_id)
    q.put_batch([1, 2])
    assert other.get_batch(2) == [1, 2]
    q.get_metrics()
    assert descriptors() == before
    other.close()
    assert descriptors() == before


@pytest.mark.slow
def test_a_thousand_queues_are_open_with_256_descriptors(run_id: str, each_engine: str) -> None:
    python(
        """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        from shared_multiprocess_queue import SharedMemoryQueue
        queues = [
            SharedMemoryQueue(f"q{i}", create=True, capacity=2, item_size=64, run_id=sys.argv[1]) for i in range(1000)
        ]
        for i, q in enumerate(queues):
            q.put(i)
        assert [q.get() for q in queues] == list(range(1000))
        for q in queues:
            q.unlink()
            q.close()
        """,
        run_id,
    )
    assert segments_of(run_id) == set()


def test_who_has_closed_all_descriptors_goes_on_and_closes_nobodys(run_id: str, each_engine: str) -> None:
    python(
        """
        import os, sys
        from shared_multiprocess_queue import SharedMemoryQueue
        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=sys.argv[1])
        other = SharedMemoryQueue("q", run_id=sys.argv[1])
        os.closerange(3, 256)
        files = [os.open(os.devnull, os.O_WRONLY) for _ in range(20)]
        q.put_batch([1, 2])
        assert other.get_batch(2) == [1, 2]
        q.close()
        other.close()
        q.unlink()
        for file in files:
            os.fstat(file)
        """,
        run_id,
    )
    assert segments_of(run_id) == set()


@pytest.mark.costly
@pytest.mark.skipif(sys.platform != "linux", reason="there are doorbells on Linux")
@pytest.mark.parametrize("reused", [True, False])
def test_a_doorbell_whose_descriptors_were_closed_touches_nobodys(run_id: str, each_engine: str, reused: bool) -> None:
    """A get that found nothing took bytes out of a stranger's socket, and close() closed it."""
    python(
        """
        import os, queue, select, socket, sys
        from shared_multiprocess_queue import QueueClosedError, SharedMemoryQueue
        q = SharedMemoryQueue("q", create=True, capacity=1, run_id=sys.argv[1])
        readable, writable = q.readable, q.writable
        readable.fileno(), writable.fileno()
        os.closerange(3, 256)
        pairs = [socket.socketpair() for _ in range(10)] if sys.argv[2] == "True" else []
        for one, other in pairs:
            one.send(b"precious")
            other.send(b"precious")
        try:
            q.get(timeout=0.01)
        except queue.Empty:
            pass
        assert q.empty()
        q.put(1)
        assert q.full()
        try:
            q.put_nowait(2)
        except queue.Full:
            pass
        try:
            readable.fileno()
        except QueueClosedError as error:
            assert "closed its descriptor" in str(error)
        assert q.readable is not readable
        assert select.select([q], [], [], 10)[0]  # a new one
        assert q.get() == 1
        q.close()
        q.unlink()
        for one, other in pairs:
            assert one.recv(100) == other.recv(100) == b"precious"
            one.close(), other.close()
        """,
        run_id,
        str(reused),
    )
    assert segments_of(run_id) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="there are doorbells on Linux")
def test_a_descriptor_that_the_program_closes_is_told_and_touched_no_more(make_queue: MakeQueue) -> None:
    """``os.close(q.fileno())`` closes one of three; its number may be a stranger's from then on."""
    q = make_queue(capacity=1)
    doorbell, descriptor = q.readable, q.fileno()
    strangers = os.memfd_create("a stranger's")
    os.dup2(strangers, descriptor)
    with pytest.raises(QueueClosedError, match="has closed its descriptor"):
        doorbell.fileno()
    with pytest.raises(q.Empty):
        q.get_nowait()
    other = q.fileno()
    assert other != descriptor
    assert select.select([other], [], [], LONG)[0]
    q.close()
    assert os.path.sameopenfile(strangers, descriptor)
    os.close(descriptor)
    os.close(strangers)
