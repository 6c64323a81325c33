"""What multiprocessing knows how to send is sent as it sends it, or refused; other programs pay nothing for that."""

from __future__ import annotations

import contextlib
import copyreg
import functools
import json
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from multiprocessing import resource_sharer
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Any

import pytest

from shared_multiprocess_queue import (
    DeserializationError,
    Full,
    ItemTooLargeError,
    QueueClosedError,
    SerializationError,
    SharedMemoryQueue,
)
from tests.support import zoo
from tests.support.queues import MakeQueue

PATIENCE = 20  # seconds until a partner that does not answer counts as dead


# ---- the same as ForkingPickler -------------------------------------------------------------------------------------


class Thing:
    def __init__(self, way: str = "itself") -> None:
        self.way = way

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and (type(other), other.way) == (type(self), self.way)

    __hash__ = None  # type: ignore[assignment]


class Reduced(Thing):
    def __reduce__(self) -> Any:
        return Reduced, ("reduce",)


class Copied(Reduced):
    pass


copyreg.pickle(Copied, lambda thing: (Copied, ("copyreg",)))


class Meta(type):
    pass


class OfMeta(metaclass=Meta):
    pass


class Unhashable(type):
    __hash__ = None  # type: ignore[assignment]


class OfUnhashable(metaclass=Unhashable):
    pass


NAMED = Thing("named")


def registered(thing: Any) -> Any:
    return type(thing), ("registered",)


def named(thing: Any) -> str:
    return "NAMED"


def of_a_class(cls: Any) -> Any:
    return str, (cls.__name__,)


def failing(thing: Any) -> Any:
    raise ValueError("of the reducer")


def nothing(thing: Any) -> Any:
    return None


def not_implemented(thing: Any) -> Any:
    return NotImplemented


class Child(Thing):
    pass


def function() -> None: ...


@pytest.mark.parametrize(
    ("kind", "reduce", "item"),
    [
        (Thing, registered, Thing()),
        (Thing, registered, [Thing(), Reduced()]),
        (Thing, registered, Child()),
        (Thing, named, Thing()),
        (Reduced, registered, Reduced()),
        (Copied, registered, Copied()),
        (Child, registered, Copied()),
        (Meta, of_a_class, OfMeta),
        (Meta, of_a_class, [OfMeta, OfMeta]),
        (type, of_a_class, Thing),
        (types.FunctionType, of_a_class, function),
        (types.ModuleType, of_a_class, json),
        (int, registered, 5),
        (dict, registered, {"a": Thing()}),
        (complex, lambda number: (str, ("c",)), 1j),
        (Thing, failing, Thing()),
        (Thing, nothing, Thing()),
        (Thing, not_implemented, Thing()),
        (Thing, registered, OfUnhashable()),
        (Thing, registered, {"bound": Thing().__eq__}),
        (Thing, registered, functools.partial(int, base=2)),
        (Thing, registered, [str.join, int.__add__, [].append, list.append]),
    ],
)
def test_what_is_registered_counts_as_for_multiprocessing(
    each_engine: str, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch, kind: Any, reduce: Any, item: Any
) -> None:
    queue = make_queue(item_size=1 << 16)
    for beside in (None, lambda: 5):  # beside a lambda, which has no name
        monkeypatch.undo()
        monkeypatch.setitem(ForkingPickler._extra_reducers, kind, reduce)  # type: ignore[attr-defined]
        expected = error = None
        try:
            expected = pickle.loads(ForkingPickler.dumps(item))
        except Exception as raised:
            error = raised
        if error is None:
            queue.put((item, beside))
            assert zoo.is_same(queue.get()[0], expected)
        else:
            with pytest.raises(SerializationError) as caught:
                queue.put((item, beside))
            assert type(caught.value.__cause__) is type(error)


def test_what_is_registered_later_counts_from_then_on(
    each_engine: str, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()

    def way() -> Any:
        queue.put([Thing(), 1])
        return queue.get()[0].way

    reducers = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    ways = [way()]
    monkeypatch.setitem(reducers, Thing, registered)
    ways.append(way())
    monkeypatch.setitem(reducers, Thing, lambda thing: (Thing, ("another",)))
    ways.append(way())
    monkeypatch.delitem(reducers, Thing)
    ways.append(way())
    monkeypatch.setattr(ForkingPickler, "_extra_reducers", {Thing: registered})
    ways.append(way())
    assert ways == ["itself", "registered", "another", "itself", "registered"]


# ---- between relatives ----------------------------------------------------------------------------------------------


def answer(requests: SharedMemoryQueue, answers: SharedMemoryQueue) -> None:
    """Answer over what a request brings along, and send an end of a pipe of one's own."""
    for _ in range(4):
        os.dup(0)  # numbers of descriptors differ between processes
    for _ in range(3):
        number, way = requests.get(timeout=PATIENCE)["request"]
        with way:
            way.sendall(bytes([2 * number])) if isinstance(way, socket.socket) else way.send(2 * number)
    mine, theirs = multiprocessing.Pipe()
    answers.put([theirs, lambda: 5])
    assert mine.recv() == 21
    mine.send(42)


def test_connections_and_sockets_arrive_as_themselves(engines: str, make_queue: MakeQueue, start_method: str) -> None:
    requests, answers = make_queue("requests"), make_queue("answers")
    context = multiprocessing.get_context(start_method)
    child = context.Process(target=answer, args=(requests, answers), daemon=True)  # type: ignore[attr-defined]
    child.start()
    mine, theirs = context.Pipe()
    requests.put({"request": (21, theirs)})
    assert mine.poll(PATIENCE)
    assert mine.recv() == 42
    reader, writer = context.Pipe(duplex=False)
    requests.put({"request": (4, writer), "beside": lambda: 1})
    assert reader.poll(PATIENCE)
    assert reader.recv() == 8
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    requests.put({"request": (5, accepted)})
    client.settimeout(PATIENCE)
    assert client.recv(1) == bytes([10])
    back, call = answers.get(timeout=PATIENCE)
    assert type(back) is Connection
    assert call() == 5
    back.send(21)
    assert back.recv() == 42
    child.join(PATIENCE)
    assert child.exitcode == 0
    for end in (mine, theirs, reader, writer, server, client, accepted, back):
        end.close()


# ---- what a put that fails has set aside ----------------------------------------------------------------------------


class Closing:
    """Closes a queue while it is pickled."""

    def __init__(self, queue: SharedMemoryQueue) -> None:
        self.queue = queue

    def __reduce__(self) -> Any:
        self.queue.close()
        return int, ()


class OwnDuplicate:
    """Duplicates a descriptor itself."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return list, ([DupFd(self.descriptor)],)


FAILING: dict[str, Callable[[SharedMemoryQueue, Any], object]] = {
    "full": lambda q, end: q.put(end, block=False),
    "full after a while": lambda q, end: q.put(end, timeout=0.01),
    "full, deflated": lambda q, end: q.put([end, "x" * 5000], block=False),
    "full, of its own": lambda q, end: q.put(OwnDuplicate(end.fileno()), block=False),
    "full, of main": lambda q, end: q.put([end, lambda: 1], block=False),
    "full, batch": lambda q, end: q.put_batch([end, 1, [end]], block=False),
    "full, batch after a while": lambda q, end: q.put_batch([end, 1, [end]], timeout=0.01),
    "closed meanwhile": lambda q, end: q.put([end, Closing(q)]),
    "closed meanwhile, batch": lambda q, end: q.put_batch([1, end, Closing(q)]),
    "too large": lambda q, end: q.put([end, os.urandom(5000)]),
    "too large, batch": lambda q, end: q.put_batch([end, [end, os.urandom(5000)]]),
    "far too large": lambda q, end: q.put([end, bytes(1_000_000)]),
    "cannot be pickled": lambda q, end: q.put({"end": end, "lock": threading.Lock()}),
    "cannot be pickled, batch": lambda q, end: q.put_batch([end, end, threading.Lock()]),
}


def count_of(end: Any) -> int:
    """Return how many descriptors of this process mean the file of a connection."""
    wanted = os.fstat(end.fileno())
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the list itself
            count += os.path.samestat(os.fstat(int(number)), wanted)
    return count


@pytest.mark.parametrize("way", FAILING)
def test_what_a_failed_put_has_set_aside_is_closed(
    each_engine: str, make_queue: MakeQueue, run_id: str, way: str
) -> None:
    queue = make_queue(capacity=3, item_size=4096)
    mine, theirs = multiprocessing.Pipe()
    before = DupFd(theirs.fileno())  # the program's own, which it may send again
    queue.put(theirs)
    if "full" in way:
        queue.put_batch([1, 2])
    waiting = dict(resource_sharer._resource_sharer._cache)  # type: ignore[attr-defined]
    with SharedMemoryQueue("q", run_id=run_id) as other:
        duplicates = count_of(theirs)
        for _ in range(3):
            with pytest.raises((Full, ItemTooLargeError, SerializationError, QueueClosedError)):
                FAILING[way](queue, theirs)
            with pytest.raises(ItemTooLargeError):
                other.put([before, os.urandom(5000)])
        assert resource_sharer._resource_sharer._cache == waiting  # type: ignore[attr-defined]
        assert count_of(theirs) == duplicates
        received = other.get(timeout=PATIENCE)
    received.send(1)
    assert mine.recv() == 1
    os.close(before.detach())
    for end in (mine, theirs, received):
        end.close()


# ---- strangers, and programs without multiprocessing ----------------------------------------------------------------


def run(source: str, *arguments: str) -> Any:
    """Run a program, and return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, timeout=PATIENCE * 3, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


STRANGER = """
import json, os, sys
from shared_multiprocess_queue import DeserializationError, SharedMemoryQueue
for _ in range(20):
    os.open(os.devnull, os.O_RDONLY)
queue = SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2])
results = []
before = sorted(os.listdir("/proc/self/fd"))
for _ in range(int(sys.argv[3])):
    try:
        results.append(repr(queue.get(timeout=10)))
    except DeserializationError as error:
        results.append(str(error))
print(json.dumps([results, sorted(os.listdir("/proc/self/fd")) == before]))
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stranger_is_told_that_it_cannot_have_a_connection(
    each_engine: str, make_queue: MakeQueue, run_id: str, capfd: pytest.CaptureFixture[str]
) -> None:
    queue = make_queue("to_strangers", item_size=1 << 16)
    mine, theirs = multiprocessing.Pipe()
    one, other = socket.socketpair()
    queue.put(("please answer", theirs))
    queue.put([one, lambda: 1])
    results, has_its_own = run(STRANGER, "to_strangers", run_id, "2")
    for result in results:
        assert "AuthenticationError" in result
        assert "only processes that multiprocessing has started from one another" in result
    assert has_its_own
    theirs.send(1)  # ours is as it was
    assert mine.recv() == 1
    for end in (mine, theirs, one, other):
        end.close()
    capfd.readouterr()  # the sharer of multiprocessing prints the refusal here, too


def test_the_sender_must_live(each_engine: str, make_queue: MakeQueue, run_id: str) -> None:
    queue = make_queue("from_the_dead", item_size=1 << 16)
    source = """
import json, multiprocessing, os, sys
from shared_multiprocess_queue import SharedMemoryQueue
mine, theirs = multiprocessing.Pipe()
SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2]).put(theirs)
print("1", flush=True)
os._exit(0)
"""
    assert run(source, "from_the_dead", run_id) == 1
    with pytest.raises(DeserializationError, match="handed over by the sender, so it must still be alive"):
        queue.get(timeout=1)


def test_a_socket_of_a_program_without_multiprocessing_arrives(each_engine: str, run_id: str) -> None:
    source = """
import json, socket, sys
from shared_multiprocess_queue import SharedMemoryQueue
with SharedMemoryQueue("plain", create=True, run_id=sys.argv[1], capacity=2) as queue:
    try:
        one, other = socket.socketpair()
        queue.put({"way": one, "x": 1})
        queue.get()["way"].sendall(b"5")
        print(json.dumps(other.recv(1).decode()))
    finally:
        queue.unlink()
"""
    assert run(source, run_id) == "5"


def test_ordinary_items_import_nothing(each_engine: str, run_id: str) -> None:
    source = """
import collections, datetime, json, sys
from dataclasses import dataclass
from shared_multiprocess_queue import SharedMemoryQueue
@dataclass
class Point:
    x: int
items = [1, "a", {"a": [1, 2]}, datetime.date(2024, 1, 1), collections.OrderedDict(a=1), range(5), len, dict]
slow = {"multiprocessing", "multiprocessing.reduction", "cloudpickle", "socket", "torch", "numpy"}
with SharedMemoryQueue("ordinary", create=True, run_id=sys.argv[1], capacity=2) as queue:
    try:
        before = set(sys.modules)
        for item in items:
            queue.put(item)
            assert queue.get() == item
        print(json.dumps(sorted(slow & set(sys.modules) - before)))
    finally:
        queue.unlink()
"""
    assert run(source, run_id) == []


@pytest.mark.parametrize("item", [multiprocessing.Lock, multiprocessing.Queue, lambda: multiprocessing.Value("i")])
def test_what_only_inheritance_shares_is_refused(
    each_engine: str, make_queue: MakeQueue, item: Callable[[], Any]
) -> None:
    queue = make_queue()
    made = item()
    with pytest.raises(SerializationError, match=r"RuntimeError.*\(at item\['x'\]"):
        queue.put({"x": made})


# ---- tensors --------------------------------------------------------------------------------------------------------


def test_a_part_of_a_tensor_costs_a_part(each_engine: str, make_queue: MakeQueue) -> None:
    torch = pytest.importorskip("torch")
    queue = make_queue(item_size=8 << 10)
    batch = torch.arange(1_000_000, dtype=torch.float32).reshape(1000, 1000)
    for part in (batch[3], batch[:, 3], batch[5:7, :100], batch[::100, ::100].T, batch[0, 0], batch[:0]):
        queue.put({"part": part})
        came = queue.get()["part"]
        assert type(came) is torch.Tensor
        assert came.shape == part.shape
        assert torch.equal(came, part)
        came += 1  # it is the receiver's own
    assert not batch.is_shared()
    assert batch[3, 0] == 3000


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_tensors_of_each_kind_arrive_equal(each_engine: str, make_queue: MakeQueue) -> None:
    torch = pytest.importorskip("torch")
    queue = make_queue(item_size=1 << 16)
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.bool, torch.complex64]
    tensors = [torch.ones(2, 3).to(kind) for kind in kinds]
    tensors += [
        torch.tensor(5),
        torch.empty(0),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.ones(3).share_memory_(),
    ]
    tensors += [torch.nn.Parameter(torch.ones(2)), torch.ones(2, requires_grad=True), torch.eye(2).to_sparse()]
    for tensor in tensors:
        queue.put([tensor, tensor])
        came, again = queue.get()
        assert came is again
        assert type(came) is type(tensor)
        assert (came.dtype, came.requires_grad, came.layout) == (tensor.dtype, tensor.requires_grad, tensor.layout)
        assert torch.equal(came.to_dense(), tensor.to_dense())


def add_one(queue: SharedMemoryQueue) -> None:
    for tensor in queue.get(timeout=PATIENCE):
        tensor.add_(1)


def test_a_shared_tensor_stays_shared(each_engine: str, make_queue: MakeQueue) -> None:
    torch = pytest.importorskip("torch")
    queue = make_queue(item_size=1 << 16)
    shared, own = torch.zeros(3).share_memory_(), torch.zeros(3)
    child = multiprocessing.get_context("fork").Process(target=add_one, args=(queue,), daemon=True)
    child.start()
    queue.put([shared, own])
    child.join(PATIENCE)
    assert (shared.tolist(), own.tolist()) == ([1, 1, 1], [0, 0, 0])
