"""What calls cost beside the round trips that they are made of, and beside other queues, in one run, interleaved."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import redis

from shared_multiprocess_queue import RemoteQueue, ShutDown

from . import peers
from .notes import end, start
from .server import Server, served

ITEM = b"x" * 64
_BATCH = 100
_END = b"end"


class Row(NamedTuple):
    """One kind of call, for one item.

    Attributes:
        name: of the call.
        trips: round trips that it is made of, for one item.
        beside: the row whose round trips these are.
        wall: microseconds; of a hand-over the median, of all else the least, because other work delays the rest.
        client: microseconds of processor time of the client, likewise.
        server: the same of the server.
    """

    name: str
    trips: float
    beside: str
    wall: float
    client: float
    server: float


class _Kind(NamedTuple):
    name: str
    trips: float  # for one item
    beside: str
    items: int  # of one call
    call: Callable[[], object]
    warming: int = 5  # calls before those that are measured: what came before was another kind


def measure(rounds: int = 100, calls: int = 20) -> list[Row]:
    """Measure; the first row is the round trip of the client library with a script that does nothing."""
    with served(appendonly="no") as (server, _):
        return _measure_on(server, rounds, calls)


def _measure_on(server: Server, rounds: int, calls: int) -> list[Row]:
    client = redis.Redis(port=server.port)
    size = rounds * (calls + 5 * _BATCH)
    with (
        RemoteQueue[bytes](server.url("plain"), create=True, capacity=size) as plain,
        RemoteQueue[bytes](server.url("leased"), create=True, capacity=size, leases=_BATCH) as leased,
        peers.opened(server.port) as others,
    ):
        kinds = [*_ours(plain, leased), *_raw(client)]
        for name, peer in others.items():
            kinds.append(_Kind(f"{name}: put", 0, "", 1, lambda put=peer.put: put(ITEM), 0))  # type: ignore[misc]
            kinds.append(_Kind(f"{name}: take", 0, "", calls, lambda take=peer.take: take(calls), 0))  # type: ignore[misc]
        found: dict[str, list[tuple[float, float, float]]] = {kind.name: [] for kind in kinds}
        for _ in range(rounds):
            for kind in kinds:
                found[kind.name].append(_timed(kind, max(calls // kind.items, 1), server))
        plain.unlink()
        leased.unlink()
    client.close()
    rows = []
    for kind in kinds:
        rows.append(Row(kind.name, kind.trips, kind.beside, *map(min, zip(*found[kind.name], strict=True))))
    return rows


def _raw(client: Any) -> list[_Kind]:
    nothing = client.script_load("return 1")

    def pipeline_of_pushes() -> None:
        with client.pipeline(transaction=False) as many:
            for _ in range(_BATCH):
                many.lpush("pipeline", ITEM)
            many.execute()

    def pipeline_of_pops() -> None:
        with client.pipeline(transaction=False) as many:
            for _ in range(_BATCH):
                many.rpop("pipeline")
            many.execute()

    return [
        _Kind("round trip", 1, "round trip", 1, lambda: client.evalsha(nothing, 0)),
        _Kind("LPUSH", 1, "round trip", 1, lambda: client.lpush("list", ITEM)),
        _Kind("BRPOP", 1, "round trip", 1, lambda: client.brpop(["list"], 1)),
        _Kind("pipeline of LPUSH", 1, "pipeline of LPUSH", _BATCH, pipeline_of_pushes),
        _Kind("pipeline of RPOP", 1, "pipeline of RPOP", _BATCH, pipeline_of_pops),
    ]


def _ours(plain: RemoteQueue[bytes], leased: RemoteQueue[bytes]) -> list[_Kind]:
    def lease() -> None:
        with leased.lease():
            pass

    batch = [ITEM] * _BATCH
    return [
        _Kind("put", 1, "round trip", 1, lambda: plain.put(ITEM)),
        _Kind("get", 2, "round trip", 1, plain.get),
        _Kind("put, with leases", 1, "round trip", 1, lambda: leased.put(ITEM)),
        _Kind("lease, done", 2, "round trip", 1, lease),
        _Kind("put_batch of 100", 1, "pipeline of LPUSH", _BATCH, lambda: plain.put_batch(batch)),
        _Kind("get_batch of 100", 1, "pipeline of RPOP", _BATCH, lambda: plain.get_batch(_BATCH)),
    ]


def _timed(kind: _Kind, times: int, server: Server) -> tuple[float, float, float]:
    for _ in range(kind.warming):
        kind.call()
    on_server, wall, cpu = _processor_time(server), time.perf_counter(), time.process_time()
    for _ in range(times):
        kind.call()
    taken = time.perf_counter() - wall, time.process_time() - cpu, _processor_time(server) - on_server
    each = 1e6 / times / kind.items
    return taken[0] * each, taken[1] * each, taken[2] * each


def _processor_time(server: Server) -> float:
    """Return the seconds for which a server's main thread has run."""
    return int(Path(f"/proc/{server.pid}/schedstat").read_text("ascii").split()[0]) / 1e9


def hand_over(times: int = 2000) -> list[Row]:
    """Measure the way of an item to a process that waits for it and back, and that of as many round trips."""
    with served(appendonly="no") as (server, _):
        return _hand_over_on(server, times)


def _hand_over_on(server: Server, times: int) -> list[Row]:
    """Each way is one trip for the put, the wake, and two trips for the get, all through the client library."""
    there, back = (RemoteQueue[bytes](server.url(name), create=True) for name in ("there", "back"))
    client = redis.Redis(port=server.port)
    push = client.script_load("redis.call('LPUSH', KEYS[1], ARGV[1]) return 1")
    nothing = client.script_load("return 1")

    def pushed(key: str, item: bytes, by: Any) -> None:
        by.evalsha(push, 1, key, item)

    def popped(key: str, by: Any) -> bytes:
        item: bytes = by.brpop([key], 0)[1]
        by.evalsha(nothing, 0)
        by.evalsha(nothing, 0)
        return item

    def answer() -> None:
        try:
            while True:
                back.put(there.get())
        except ShutDown:
            return

    def answer_raw() -> None:
        own = redis.Redis(port=server.port)
        while (item := popped("there", own)) != _END:
            pushed("back", item, own)

    def ours() -> None:
        there.put(ITEM)
        back.get()

    def raw() -> None:
        pushed("there", ITEM, client)
        popped("back", client)

    children = [start(answer), start(answer_raw)]
    found: dict[str, list[float]] = {"raw, there and back": [], "ours, there and back": []}
    try:
        for _ in range(times):
            for name, call in zip(found, (raw, ours), strict=True):
                before = time.perf_counter()
                call()
                found[name].append((time.perf_counter() - before) * 1e6)
    finally:
        for child in children:
            end(child)
    for queue in (there, back):
        queue.close()
        queue.unlink()
    client.close()
    return [Row(name, 1, "raw, there and back", statistics.median(each), 0, 0) for name, each in found.items()]


def lines(rows: list[Row]) -> list[str]:
    """Return the rows as text, each beside as many round trips as it is made of."""
    by_name = {row.name: row for row in rows}
    text = [f"{'microseconds for an item':24} {'wall':>8} {'client':>8} {'server':>8}   wall beside"]
    for row in rows:
        beside = f"{row.wall / by_name[row.beside].wall / row.trips:6.2f} x {row.beside}" if row.beside else ""
        if row.trips > 1:
            beside += f" x {row.trips:g}"
        text.append(f"{row.name:24} {row.wall:8.1f} {row.client:8.1f} {row.server:8.1f}   {beside}".rstrip())
    for name in peers.missing():
        text.append(f"{name} is not installed")
    return text
