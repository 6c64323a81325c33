"""A handle pickles and attaches again, to its own queue only."""

from __future__ import annotations

import copy
import pickle

import pytest

from shared_multiprocess_queue import DeserializationError, QueueClosedError, QueueNotFoundError
from tests.support.queues import MakeQueue

# From 3.12 on Python warns of every fork beside a thread; that is what some tests here are about.
pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# ---- pickled handles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_handle_pickles_and_attaches_again(make_queue: MakeQueue, mode: str, protocol: int) -> None:
    q = make_queue(capacity=5, item_size=99, mode=mode, engine="atomics")
    q.put("before")
    data = pickle.dumps(q, protocol)
    with pickle.loads(data) as copied:
        assert copied is not q
        for attribute in ("name", "run_id", "capacity", "item_size", "mode", "engine"):
            assert getattr(copied, attribute) == getattr(q, attribute)
        assert copied.get() == "before"
        q.put("after")
        assert copied.get() == "after"
    assert not q.closed
    with pickle.loads(data) as again:
        q.put("the data can be used again")
        assert again.get() == "the data can be used again"


def test_a_copied_handle_is_one_more_handle(make_queue: MakeQueue) -> None:
    q = make_queue()
    with copy.copy(q) as one, copy.deepcopy(q) as other:
        one.put(1)
        assert other.get() == 1
    q.put(2)
    assert q.get() == 2


def test_a_handle_may_be_an_item(make_queue: MakeQueue) -> None:
    q, other = make_queue(), make_queue("other")
    q.put({"answer to": other})
    with q.get()["answer to"] as received:
        received.put("here")
    assert other.get() == "here"


def test_a_closed_handle_does_not_pickle(make_queue: MakeQueue) -> None:
    q = make_queue()
    q.close()
    with pytest.raises(QueueClosedError, match="is closed"):
        pickle.dumps(q)


def test_a_pickled_handle_of_a_queue_that_is_gone_says_so(make_queue: MakeQueue) -> None:
    q = make_queue()
    data = pickle.dumps(q)
    q.unlink()
    with pytest.raises(QueueNotFoundError, match=f"{q.run_id}-q-queue"):
        pickle.loads(data)


def test_a_handle_of_a_queue_that_is_gone_cannot_be_read(
    make_queue: MakeQueue,
) -> None:
    """It is an error of that item; the queue that the handle came through goes on."""
    q, other = make_queue(), make_queue("other")
    q.put_batch([other, "next"])
    other.close()
    other.unlink()
    with pytest.raises(DeserializationError) as caught:
        q.get()
    assert isinstance(caught.value.__cause__, QueueNotFoundError)
    assert q.get() == "next"


# ---- another queue of its name --------------------------------------------------------------------------------------


def test_a_handle_does_not_unpickle_to_another_queue_of_its_name(make_queue: MakeQueue) -> None:
    queue = make_queue()
    data = pickle.dumps(queue)
    queue.close()
    queue.unlink()
    make_queue()
    with pytest.raises(QueueNotFoundError, match="another one has its name"):
        pickle.loads(data)
