"""The scripts alone, on a real server: what lies in their keys before and after."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared_multiprocess_queue import Empty, RemoteQueue
from shared_multiprocess_queue._remote.scripts import KEYS, SCRIPTS
from tests.support.servers import Server, free_port, programs_or_skip

UUID = "cafe"

Run = Callable[..., Any]


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    import redis

    with redis.Redis(port=server.port) as made:
        yield made
        made.flushall()


@pytest.fixture
def run(client: Any) -> Run:
    """Run a script on a queue of capacity 2 with 2 leases; return its answer."""
    fields = {"capacity": 2, "item_size": 10, "leases": 2, "max_deliveries": 2, "lease": 1000}

    def call(name: str, *arguments: Any, uuid: str = UUID) -> Any:
        script = SCRIPTS[name]
        return client.eval(script.text, len(script.keys), *script.keys, uuid, *arguments)

    assert call("create", *(word for pair in fields.items() for word in pair)) == [b"ok"]
    return call


def lay(client: Any) -> dict[str, Any]:
    """Return what lies in the keys of a queue; times and counters are left out."""
    return {
        "w": client.lrange("w", 0, -1),
        "l": sorted(client.zrange("l", 0, -1)),
        "d": client.hgetall("d"),
        "r": client.zrange("r", 0, -1),
        "x": client.hgetall("x"),
    }


EMPTY: dict[str, Any] = {"w": [], "l": [], "d": {}, "r": [], "x": {}}


def test_an_item_goes_its_way(client: Any, run: Run) -> None:
    assert run("put", 1, "s", 0, b"A", b"\0\r\n:B") == [b"ok"]
    assert lay(client) == {**EMPTY, "w": [b"1:0:A", b"2:0:\0\r\n:B"]}
    assert run("put", 2, "s", 0, b"C") == [b"full"]
    assert run("take", 3, "h:1", 0, 1, 0) == [b"ok", b"1:1:h:1", b"A"]
    assert lay(client) == {**EMPTY, "w": [b"2:0:\0\r\n:B"], "l": [b"1:1:h:1"], "d": {b"1": b"A"}}
    assert run("take", 4, "h:1", 0, 5, 0) == [b"ok", b"2:1:h:1", b"\0\r\n:B"]
    assert run("put", 5, "s", 0, b"C") == [b"ok"], "the capacity bounds what waits"
    assert run("take", 6, "h:1", 0, 1, 0)[0] == b"none", "and the leases what is in processing"
    assert run("release", 7, 60_000, 0, 1, "1:1:h:1") == [b"ok", b"1"]
    assert run("take", 8, "h:1", 0, 1, 0)[0] == b"none", "an item that is given back keeps its lease place"
    assert run("done", 9, "2:1:h:1", "1:1:h:1") == [b"ok", b"10"], "one of the two is no lease any more"
    assert lay(client) == {**EMPTY, "w": [b"3:0:C"], "r": [b"1:1"], "d": {b"1": b"A"}}
    assert run("take", 10, "h:2", 0, 1, 0) == [b"ok", b"3:1:h:2", b"C"]


def test_what_comes_back_too_often_is_a_dead_letter(client: Any, run: Run) -> None:
    run("put", 1, "s", 0, b"A")
    for number, token in ((2, "1:1:h"), (4, "1:2:h")):
        assert run("take", number, "h", 0, 1, 0) == [b"ok", token.encode(), b"A"]
        assert run("release", number + 1, 0, 0, 1, token) == [b"ok", b"1"]
    assert lay(client) == {**EMPTY, "x": {b"1": b"2:A"}}
    assert run("letters") == [b"ok", [1, 3]]
    assert run("letters_of", 1, 2) == [b"ok", [b"2:A", None]]
    assert run("end_letter", 6, "1", 1) == [b"ok", b"1"]
    assert run("end_letter", 7, "1", 1) == [b"ok", b"0"]
    assert run("take", 8, "h", 0, 1, 0) == [b"ok", b"1:1:h", b"A"]


def test_with_no_place_for_a_dead_letter_it_goes_behind_all_others(client: Any, run: Run) -> None:
    client.hset("x", mapping={"8": "2:X", "9": "2:Y"})
    run("put", 1, "s", 0, b"A", b"B")
    run("take", 2, "h", 0, 1, 0)
    run("release", 3, 0, 0, 1, "1:1:h")
    run("take", 4, "h", 0, 1, 0)
    run("release", 5, 0, 0, 1, "1:2:h")
    assert lay(client)["w"] == [b"2:0:B", b"1:2:A"]
    assert client.hget("m", "dead_refused") == b"1"


def test_a_lease_that_is_over_goes_to_the_next(client: Any, run: Run) -> None:
    run("put", 1, "s", 0, b"A")
    run("take", 2, "h", 0, 1, 0)
    assert run("keep", "1:1:h", "9:1:h") == [b"ok", b"10"]
    client.zadd("l", {"1:1:h": 1})
    assert run("take", 3, "other", 0, 1, 0) == [b"ok", b"1:2:other", b"A"]
    assert run("keep", "1:1:h") == [b"ok", b"0"]
    assert run("done", 4, "1:1:h") == [b"ok", b"0"]
    assert run("done", 5, "1:2:other") == [b"ok", b"1"]
    assert lay(client) == EMPTY
    assert client.hget("m", "redelivered") == b"1"


def test_the_end_waits_for_the_leases_of_others_only(client: Any, run: Run) -> None:
    run("put", 1, "s", 0, b"A")
    run("take", 2, "h", 0, 1, 0)
    assert run("shutdown", 0) == [b"ok"]
    assert run("put", 3, "s", 0, b"B") == [b"shut"]
    assert run("take", 4, "other", 0, 1, 0)[0] == b"none"
    assert run("take", 5, "h", 0, 1, 1) == [b"shut"]
    assert run("release", 6, 0, 0, 1, "1:1:h") == [b"ok", b"1"]
    assert run("take", 7, "other", 0, 1, 0) == [b"ok", b"1:2:other", b"A"]
    assert run("shutdown", 1) == [b"ok"]
    assert run("release", 8, 0, 0, 1, "1:2:other") == [b"ok", b"1"]
    assert lay(client) == EMPTY, "what comes back after the end is dropped"
    assert run("join", 0) == [b"ok", 0, b"1"]


def test_wake_tokens_are_left_for_those_that_wait_and_for_none_else(client: Any, run: Run) -> None:
    run("put", 1, "s", 0, b"A")
    assert not client.exists("tg")
    run("take", 2, "h", 0, 1, 0)
    run("take", 3, "h", 1, 1, 1)
    run("put", 4, "s", 0, b"B", b"C")
    assert client.llen("tg") == 2
    assert 0 < client.pttl("tg") <= 3000
    run("put", 5, "s", 1, b"D")
    run("take", 6, "h", 0, 1, 1)
    assert client.llen("tp") == 1
    run("join", 1)
    run("done", 7, "1:1:h", "2:1:h")
    assert not client.exists("ti"), "there is one more"
    run("take", 8, "h", 0, 1, 1)
    run("done", 9, "3:1:h")
    assert client.llen("ti") == 32


def test_a_single_put_waits_for_a_batch_that_came_first(client: Any, run: Run) -> None:
    run("put", 1, "s", 0, b"A")
    assert run("put", 2, "s", 1, b"B", b"C") == [b"full"]
    assert run("put", 3, "t", 0, b"D") == [b"full"]
    assert run("put", 4, "s", 0, b"B", b"C") == [b"full"], "the batch gives up"
    assert run("put", 5, "t", 0, b"D") == [b"ok"]


@pytest.mark.parametrize("name", sorted(set(SCRIPTS) - {"create"}))
def test_no_script_touches_the_queue_of_another_uuid(client: Any, run: Run, name: str) -> None:
    run("put", 1, "s", 0, b"A")
    before = {key: client.dump(key) for key in client.scan_iter()}
    assert run(name, *[1] * 6, uuid="other") == [b"gone"]
    assert {key: client.dump(key) for key in client.scan_iter()} == before


def test_unlink_leaves_nothing_but_what_expires(client: Any, run: Run) -> None:
    run("put", 1, "s", 0, b"A", b"B")
    run("take", 2, "h", 0, 1, 0)
    assert run("unlink") == [b"ok"]
    left = list(client.scan_iter())
    assert all(client.pttl(key) > 0 for key in left), left
    assert {"w", "d", "x", "tg", "tp", "ti"} == set(KEYS)


@pytest.mark.slow
def test_all_keys_of_a_queue_lie_in_one_slot(tmp_path: Any) -> None:
    """A server of a cluster refuses a script whose keys lie in several."""
    node = Server(tmp_path, programs_or_skip()[0], **{"cluster-enabled": "yes", "cluster-port": str(free_port())})
    node.start()
    try:
        assert node.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")[0] == b"+OK"
        while b"cluster_state:ok" not in node.command("CLUSTER", "INFO"):
            pass
        with RemoteQueue[Any](node.url("a{b}c%"), create=True, run_id="{r}", capacity=2, leases=2, lease=1) as q:
            q.put_batch([1, 2])
            q.lease().release()
            with pytest.raises(q.Full):
                q.put_batch([3, 4], timeout=0.05)
            for _ in range(2):
                q.get()
                q.task_done()
            with pytest.raises(Empty):
                q.get(timeout=0.05)
            assert q.join(timeout=0)
            assert q.dead_letters() == []
            q.shutdown()
            q.unlink()
    finally:
        node.kill()


def test_every_script_begins_so_that_a_full_server_refuses_it_whole() -> None:
    for script in SCRIPTS.values():
        assert re.match(r"#!lua( flags=(allow-oom|no-writes))?\n", script.text), script.name


@pytest.mark.slow
def test_a_take_is_no_larger_than_a_batch_may_be(client: Any, run: Run) -> None:
    client.hset("m", mapping={"capacity": 100, "leases": 100, "item_size": 1_000_000})
    run("put", 1, "s", 0, *[b"x" * 1_000_000] * 20)
    answer = run("take", 2, "h", 0, 100, 0)
    assert (len(answer) - 1) / 2 == 17, "with the last one it is more than 16 MiB"
    run("done", 3, *answer[1::2])
    assert (len(run("take", 4, "h", 0, 100, 0)) - 1) / 2 == 3
