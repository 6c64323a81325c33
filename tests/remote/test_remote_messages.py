"""What errors of queues on a server say: in the words of the arguments, with the way out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import QueueMismatchError, RemoteQueue, open_queue
from shared_multiprocess_queue._remote import where
from shared_multiprocess_queue.errors import ArgumentError
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server, programs_or_skip

KEY = b"k" * 16


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    """The socket of a server."""
    path = tmp_path / "s"
    server = Server(tmp_path, programs_or_skip()[0], unixsocket=str(path))
    server.start()
    yield path
    server.kill()


def test_a_queue_is_opened_by_a_socket(socket: Path) -> None:
    with open_queue(f"unix://{socket}?db=1#t", create=True) as q:
        q.put(1)
        assert q.get() == 1
        assert q.url == f"unix://{socket}#t"
        q.unlink()


@pytest.mark.parametrize("url", ["unix://run/redis.sock#t", "unix://#t", "unix://user@#t"])
def test_a_url_of_a_socket_has_its_path(url: str) -> None:
    with pytest.raises(ArgumentError, match=r"write unix:///run/redis\.sock#tasks"):
        where.parse(url)


def test_a_url_without_a_host_is_one_of_this_machine() -> None:
    assert where.parse("redis://#t").server == "redis://"


def test_a_secret_that_is_missing_is_asked_for(make_remote: MakeRemote, server: Server, run_id: str) -> None:
    make_remote(secret=KEY)
    with pytest.raises(QueueMismatchError) as caught:
        RemoteQueue[Any](server.url(), run_id=run_id)
    assert str(caught.value) == (
        f"the items of queue '{server.url()}' are signed; pass secret= (shmq bridge: SHMQ_SECRET)"
    )


def test_a_secret_that_is_too_much_is_told(make_remote: MakeRemote, server: Server, run_id: str) -> None:
    make_remote(serializer="pickle", trust_the_server=True)
    with pytest.raises(QueueMismatchError) as caught:
        RemoteQueue[Any](server.url(), run_id=run_id, secret=KEY, capacity=9)
    assert str(caught.value) == (
        f"the items of queue '{server.url()}' are not signed; leave secret out; it has serializer='pickle', not "
        f"'plain'; it has capacity=3, not 9"
    )


def test_another_serializer_is_named_by_its_argument(make_remote: MakeRemote, server: Server, run_id: str) -> None:
    make_remote(serializer="pickle", trust_the_server=True)
    with pytest.raises(QueueMismatchError, match=r"serializer='pickle', and .*='plain' \(the default\);"):
        RemoteQueue[Any](server.url(), run_id=run_id)


def test_another_lease_is_shown_in_seconds(make_remote: MakeRemote, server: Server, run_id: str) -> None:
    make_remote(leases=1, lease=2.5)
    with pytest.raises(QueueMismatchError, match=r"lease=2\.5, not 60\.0,.* pass lease=2\.5;"):
        RemoteQueue[Any](server.url(), run_id=run_id, lease=60)
