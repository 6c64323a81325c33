"""URLs of queues: no text shows a password, and no option changes what this package relies on."""

from __future__ import annotations

import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import (
    CorruptQueueError,
    DeserializationError,
    QueueUnavailableError,
    RemoteQueue,
    open_queue,
)
from shared_multiprocess_queue._remote import where
from shared_multiprocess_queue.errors import ArgumentError
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server, free_port

SECRET = "s3cret"


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret@host:x/0#q",
        "redis://user:pa/s3cret@host/0#q",
        "redis://user:pa?s3cret@host/0#q",
        "redis://user:pa#s3cret@host/0#q",
        "redis://user:p@s3cret@host/0#q",
        "redis://user:s3cret@host/0#q@r",
        "redis://user:s3cret@host/0",
        "redis://user:s3cret@host/0/1#q",
        "redis://user:s3cret@host/zero#q",
        "redis://:s3cret#q",
        "redis://host:s3cret#q",
        "redis://host/s3cret#q",
        "redis://host/0?password=s3cret#q",
        "redis://host/0?s3cret#q",
        "redis://host/0?db=s3cret#q",
        "redis://host/0?db=1&db=2#q",
        "redis://host/0?ssl_ca_certs=/s3cret#q",
        "redis://user:s3cret @host#q",
        "redis://user:s3cret\n@host#q",
        "redis://[::1:s3cret@host#q",
        "http://user:s3cret@host#q",
        "redis:/user:s3cret@host/0#q",
        "Redis:user:s3cret@host#q",
        "//user:s3cret@host/0#q",
        "user:s3cret://host#q",
        "redis://host/0#q?password=s3cret",
        "redis://user:s3cret@host/1?db=2#q",
        "rediss://user:s3cret@host/0?ssl_cert_reqs=no#q",
        "unix://user:s3cret@host:1/path?x=1#q",
        "redis+cluster://user:s3cret@host,/0#q",
        "redis+cluster://user:s3cret@host/1#q",
        "redis+cluster://user:pa/s3cret@host#q",
        "redis+cluster://host:s3cret,host#q",
        "redis+sentinel://user:s3cret@host,other#q",
        "redis+sentinel://user:s3cret@host/service/s3cret#q",
        "redis+sentinel://user:p@s3cret@host/service#q",
        "redis+cluster:/user:s3cret@host/0#q",
        "redis+many://user:s3cret@host/0#q",
    ],
)
def test_an_url_that_cannot_be_shows_no_password(url: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        open_queue(url)
    text = "".join(traceback.format_exception(caught.value))
    lines = [line for line in text.splitlines() if "open_queue(url)" not in line]
    assert SECRET not in "\n".join(lines)
    assert len(str(caught.value)) > 50


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret@host:6379/0#q",
        "REDIS://:s3cret@host#q",
        "redis://s3cret@host#q",
        "redis://user:s3cret@[::1]:6379#q",
        "rediss://user:s3cret@host/0?ssl_cert_reqs=none#q",
        "unix://user:s3cret@/run/redis.sock?db=1#q",
        "redis+sentinel://user:s3cret@host,[::1]:7000/service/1#q",
        "valkeys+cluster://:s3cret@host:7000,other#q",
    ],
)
def test_no_text_of_a_place_shows_a_password(url: str) -> None:
    place = where.parse(url)
    assert SECRET not in place.shown + repr(place) + str(place) + f"{[place]}"
    assert SECRET in place.server


def test_a_url_of_several_servers_names_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(where.PASSWORD, SECRET)
    place = where.parse("rediss+sentinel://worker@one,two:27,[::1]:28/main%20one/2?ssl_cert_reqs=none#q")
    assert place.nodes == (("one", 26379), ("two", 27), ("::1", 28))
    assert place.service == "main one"
    assert place.server == f"rediss://worker:{SECRET}@one/2?ssl_cert_reqs=none"
    assert place.sentinel == "rediss://sentinel?ssl_cert_reqs=none"
    assert place.shown == "rediss+sentinel://***@one,two:27,[::1]:28/main%20one/2#q"
    place = where.parse("redis+cluster://one:7000,two/0#q")
    assert place.nodes == (("one", 7000), ("two", 6379))
    assert (place.service, place.shown) == ("", "redis+cluster://one:7000,two/0#q")
    assert where.parse(place.given) == place


def test_a_file_of_certificates_that_is_not_there_is_named(tmp_path: Path) -> None:
    there, missing = tmp_path / "there.pem", tmp_path / "missing.pem"
    there.touch()
    place = where.parse(f"rediss://user:{SECRET}@host?ssl_ca_certs={there}#q")
    assert str(there) in place.server
    assert str(there) not in place.shown
    with pytest.raises(ArgumentError, match=r"ssl_ca_certs.*missing\.pem") as caught:
        where.parse(f"rediss://user:{SECRET}@host?ssl_ca_certs={missing}#q")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("option", ["socket_timeout=100", "decode_responses=true", "max_connections=1", "protocol=3"])
def test_no_option_of_an_url_changes_the_client(option: str) -> None:
    with pytest.raises(ArgumentError, match="not known here"):
        open_queue(f"redis://127.0.0.1:{free_port()}/0?{option}#q", reconnect=0)


def test_nothing_that_is_logged_shows_a_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(QueueUnavailableError) as caught:
        open_queue(f"redis://user:{SECRET}@127.0.0.1:{free_port()}/0#q", reconnect=0)
    assert SECRET not in "".join(traceback.format_exception(caught.value)).replace(f"user:{{{SECRET}", "")
    assert SECRET not in caplog.text


def test_an_item_is_signed_for_its_queue_alone(make_remote: MakeRemote, server: Server) -> None:
    """A stranger that can write to the server can copy keys, and gives a queue of its own any uuid."""
    arguments = {"secret": b"x" * 16, "serializer": "pickle"}
    mine, other = make_remote("mine", **arguments), make_remote("other", **arguments)
    mine.put("for mine")
    other.put("for other")
    prefix = mine._handle.calls.prefix.replace("/mine", "/other").encode()
    waiting = [key for key in server.command("KEYS", "*:w") if key.startswith(b"shmq:")]
    (stolen,) = (key for key in waiting if not key.startswith(prefix))
    (target,) = (key for key in waiting if key.startswith(prefix))
    server.raw("DEL", target)
    server.raw("COPY", stolen, target)
    meta = prefix + b"m"
    server.raw("HSET", meta, "uuid", mine._handle.uuid)
    renamed = target.replace(other._handle.uuid.encode(), mine._handle.uuid.encode())
    server.raw("RENAME", target, renamed)
    with RemoteQueue[Any](server.url("other"), run_id=other.run_id, **arguments) as attacked:  # type: ignore[arg-type]
        with pytest.raises(DeserializationError, match="signature"):
            attacked.get()
        attacked.unlink()
    assert mine.get() == "for mine"
    assert pickle.dumps(1)


@pytest.mark.parametrize("damage", [("HDEL", "leases"), ("HSET", "capacity", "many"), ("HDEL", "version")], ids=str)
def test_a_damaged_queue_is_told(own_server: Server, damage: tuple[str, ...]) -> None:
    with RemoteQueue[Any](own_server.url(), create=True) as q:
        (meta,) = (line.decode() for line in own_server.command("KEYS", "*:m") if line.startswith(b"shmq:"))
        own_server.command(damage[0], meta, *damage[1:])
        with pytest.raises(CorruptQueueError, match="remove"):
            RemoteQueue(own_server.url())
        own_server.command("HDEL", meta, "time")
        with pytest.raises(CorruptQueueError, match="remove"):
            q.put(1)
    own_server.command("DEL", meta)
    own_server.command("SET", meta, "text")
    with pytest.raises(CorruptQueueError):
        RemoteQueue(own_server.url())
    RemoteQueue.remove(own_server.url())
    with pytest.raises(FileNotFoundError):
        RemoteQueue(own_server.url())


def test_the_name_of_a_queue_is_utf_8() -> None:
    """Or the names of two queues would be one: each wrong byte is read as the same character."""
    assert where.parse("redis://host#%C3%A9").name == "é"
    with pytest.raises(ArgumentError, match="UTF-8"):
        where.parse("redis://host#%ff")
