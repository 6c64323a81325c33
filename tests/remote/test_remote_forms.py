"""What the bytes of an item on a server may be: no pickle from a stranger, nothing unsigned beside a secret."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import pytest

from shared_multiprocess_queue import DeserializationError, QueueMismatchError, RemoteQueue, SerializationError
from shared_multiprocess_queue._remote.forms import Forms
from shared_multiprocess_queue.errors import ArgumentError
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server

KEY, OTHER = b"k" * 16, b"o" * 64


class Harmful:
    def __reduce__(self) -> Any:
        return pytest.fail, ("this program must not run",)


def entries(server: Server, queue: RemoteQueue[Any]) -> tuple[str, bytes]:
    """Return the list that a queue's items lie in, and the one entry."""
    (key,) = (line.decode() for line in server.command("KEYS", "shmq:*:w") if line.startswith(b"shmq:"))
    return key, server.command("LRANGE", key, "0", "-1")[2]


def forge(server: Server, queue: RemoteQueue[Any], payload: bytes) -> None:
    """Put what a stranger would write in the place of the one item."""
    key, entry = entries(server, queue)
    head = b":".join(entry.split(b":", 2)[:2]) + b":"
    server.raw("LSET", key, "0", head + payload)


def test_pickles_need_a_secret_or_trust(server: Server) -> None:
    wrong: list[dict[str, Any]] = [{}, {"trust_the_server": 1}]
    for options in wrong:
        with pytest.raises(ArgumentError, match=r"secret=.*trust_the_server=True"):
            RemoteQueue(server.url(), create=True, serializer="pickle", **options)
    with pytest.raises(ArgumentError, match="'plain'"):
        RemoteQueue(server.url(), create=True, serializer="json")  # type: ignore[arg-type]
    secrets: list[Any] = [b"short", b"", [], "k" * 16, b"l" * 65]
    for secret in secrets:
        with pytest.raises(ArgumentError, match="16 to 64 bytes"):
            RemoteQueue(server.url(), create=True, secret=secret)


@pytest.mark.parametrize("options", [{"secret": KEY}, {"trust_the_server": True}], ids=["signed", "trusted"])
def test_any_object_goes_as_a_pickle(make_remote: MakeRemote, options: dict[str, Any]) -> None:
    q = make_remote(serializer="pickle", **options)
    q.put(Fraction(1, 3))
    add = q.name.__add__
    q.put(lambda: add("!"))
    assert q.get() == Fraction(1, 3)
    assert q.get()() == "q!"
    with pytest.raises(SerializationError, match="cannot be serialised"):
        q.put(i for i in range(3))


def test_a_forged_pickle_is_not_run(make_remote: MakeRemote, server: Server) -> None:
    for options in ({}, {"secret": KEY}, {"serializer": "pickle", "secret": KEY}):
        q = make_remote("forged", **options)
        for head in (b"k", b"\xeb" + b"0" * 16, b"p", b"\xf0" + b"1" * 16, b""):
            q.put("honest")
            forge(server, q, head + pickle.dumps(Harmful()))
            with pytest.raises(DeserializationError, match=r"another form|signature|damaged"):
                q.get()
        assert q.empty(), "it was consumed"
        q.close()
        q.unlink()


def test_a_signature_is_of_one_queue_and_one_form() -> None:
    forms = Forms("plain", [KEY, OTHER], False)
    entry = forms.encode([1], 100, b"queue")
    assert forms.decode(entry, b"queue") == [1]
    assert Forms("plain", [OTHER, KEY], False).decode(entry, b"queue") == [1]
    for reader, where in ((forms, b"other"), (Forms("plain", OTHER, False), b"queue")):
        with pytest.raises(DeserializationError, match="signature"):
            reader.decode(entry, where)
    for other in (b"", b"p" + entry[17:], b"k" + entry[1:]):
        with pytest.raises(DeserializationError, match="another form"):
            forms.decode(other, b"queue")
    for i in range(1, len(entry)):
        damaged = bytearray(entry)
        damaged[i] ^= 1
        with pytest.raises(DeserializationError, match="signature"):
            forms.decode(bytes(damaged), b"queue")


def test_handles_of_one_queue_have_one_form(make_remote: MakeRemote, server: Server, run_id: str) -> None:
    make_remote(secret=KEY)
    with pytest.raises(QueueMismatchError, match="are signed"):
        RemoteQueue(server.url(), run_id=run_id)
    with RemoteQueue(server.url(), run_id=run_id, secret=KEY) as q:
        q.put(1)
        with pickle.loads(pickle.dumps(q)) as same:
            assert same.get() == 1


def test_an_item_that_cannot_be_read_ends_a_batch(make_remote: MakeRemote) -> None:
    for leases in (0, 4):
        q = make_remote(f"q{leases}", leases=leases, capacity=4, serializer="pickle", trust_the_server=True)
        q.put_batch([1, Unreadable(), 3])
        assert q.get_batch(3) == [1]
        with pytest.raises(DeserializationError, match="on purpose") as caught:
            q.get_batch(3)
        assert caught.value.raw.startswith(b"k")
        assert q.get_batch(3) == [3]
        if leases:
            q.task_done()
            q.task_done()
            assert q.join(timeout=0)


def fail() -> None:
    raise LookupError("on purpose")


class Unreadable:
    def __reduce__(self) -> Any:
        return fail, ()
