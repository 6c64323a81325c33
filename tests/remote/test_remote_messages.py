"""What errors of queues on a server say: in the words of the arguments, with the way out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from shared_multiprocess_queue import (
    QueueMismatchError,
    QueueNotFoundError,
    QueueRefusedError,
    QueueUnavailableError,
    RemoteQueue,
    SharedMemoryQueue,
    like,
    open_queue,
)
from shared_multiprocess_queue._platform import clock
from shared_multiprocess_queue._remote import where
from shared_multiprocess_queue._remote.trouble import Trouble
from shared_multiprocess_queue.cli.app import main
from shared_multiprocess_queue.errors import ArgumentError
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server, free_port, programs_or_skip

KEY = b"k" * 16
URL = f"redis://127.0.0.1:{free_port()}/0#q"  # where no server is


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    """The socket of a server."""
    path = tmp_path / "s"
    server = Server(tmp_path, programs_or_skip()[0], unixsocket=str(path))
    server.start()
    yield path
    server.kill()


def test_a_queue_is_opened_by_a_socket(socket: Path) -> None:
    with RemoteQueue[Any](f"unix://{socket}?db=1#t", create=True) as q:
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


def test_a_queue_that_is_waited_for_in_vain_says_how_long(server: Server) -> None:
    with pytest.raises(QueueNotFoundError, match=r"waited 0\.\d s for it"):
        open_queue(server.url("none"), wait=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity": 0}, "no unlimited queue: choose"),
        ({"item_size": 1 << 27}, r"between 1 and 67,108,864 bytes on a server, not 134217728"),
        ({"item_size": 1 << 40}, r"between 1 and 67,108,864 bytes on a server"),
        ({"secret": "s3cret"}, "must be 16 to 64 bytes, not something of type str;"),
        ({"secret": 5}, "something of type int"),
        ({"secret": b"s3cret"}, "not 6 bytes"),
        ({"secret": []}, "bytes at least"),
    ],
)
def test_arguments_that_cannot_be_say_what_can(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        open_queue(URL, create=True, reconnect=0, **arguments)
    assert "s3cret" not in str(caught.value)


def test_options_of_the_other_kind_of_queue_are_named() -> None:
    with pytest.raises(TypeError, match="a queue on a server has no max_item_size; its item_size may be up to 64 MiB"):
        open_queue(URL, max_item_size=5)
    with pytest.raises(TypeError, match="a queue on a server has no loads; leave it out"):
        open_queue(URL, loads=bytes)
    with pytest.raises(TypeError, match=r"a queue of this machine has no secret; .* URL"):
        open_queue("tasks", secret=KEY)
    here, there = (
        set(inspect.signature(kind.__init__).parameters) - {"self", "name", "url"}
        for kind in (SharedMemoryQueue, RemoteQueue)
    )
    assert (set(like._HERE_ALONE), set(like._ON_SERVERS_ALONE)) == (here - there, there - here)


def test_a_server_that_is_away_is_told_with_the_time_and_the_outcome() -> None:
    with pytest.raises(QueueUnavailableError) as caught:
        open_queue(URL, reconnect=0.3)
    assert re.search(r"refused; after 0\.3 s in which it was asked again the call has done nothing;", str(caught.value))
    lost = Trouble(where.parse(URL), 0, 0)
    with pytest.raises(QueueUnavailableError, match=r"closed; after 0\.0 s .* may have had its effect"):
        lost.pause(redis.exceptions.ConnectionError("closed."))


def test_no_pause_is_longer_than_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: 0)
    trouble = Trouble(where.parse(URL), 0.5, clock.FOREVER)
    assert max(trouble.pause(redis.exceptions.ConnectionError("closed")) for _ in range(20)) <= 0.5


def test_a_server_without_tls_is_told() -> None:
    """It answers with what is no TLS, or, to most greetings, not at all."""
    trouble = Trouble(where.parse(URL.replace("redis:", "rediss:")), 0, 0)
    with pytest.raises(QueueRefusedError, match=r"speaks no TLS at that port: write redis://"):
        trouble.pause(redis.exceptions.ConnectionError("[SSL: WRONG_VERSION_NUMBER] wrong version number"))
    with pytest.raises(QueueUnavailableError, match=r"whether it speaks TLS at that port"):
        trouble.pause(redis.exceptions.TimeoutError("Timeout connecting to server"))


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("redis://host:s3cret/0#q", "no number of a port"),
        ("redis://[::1/0#q", "IPv6 stands in brackets"),
        ("redis://user:s3 cret@host#q", "a space"),
        ("unix://user@:5/s#q", "has no port"),
        ("redis://host?db=x#q", "write db=0, once"),
        ("rediss://host?ssl_cert_reqs=x#q", "write ssl_cert_reqs=required"),
    ],
)
def test_the_part_of_a_url_that_is_wrong_is_named(url: str, part: str) -> None:
    with pytest.raises(ArgumentError, match=part):
        where.parse(url)


@pytest.mark.parametrize("words", [["show", URL], ["rm", "q", URL], ["peek", URL], ["drain", URL], ["metrics", URL]])
def test_commands_that_look_here_say_so(words: list[str]) -> None:
    done = CliRunner().invoke(main, words, env={"COLUMNS": "10000"})
    assert done.exit_code == 2
    assert "queues of this machine only" in done.stderr
    assert "RemoteQueue.remove(url)" in done.stderr
