"""What calls cost beside the round trips that they are made of, and beside LPUSH and BRPOP, in one run, interleaved."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import redis

from shared_multiprocess_queue import RemoteQueue

from .server import PROGRAMS, Server

ITEM = b"x" * 64
_BATCH = 100


class Row(NamedTuple):
    """One kind of call, for one item.

    Attributes:
        name: of the call.
        trips: round trips that it is made of, for one item.
        wall: microseconds, the median.
        client: microseconds of processor time of the client, the least.
    """

    name: str
    trips: float
    wall: float
    client: float


def measure(rounds: int = 7, calls: int = 500) -> list[Row]:
    """Measure; the first row is the round trip of the client library with a script that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), PROGRAMS[0], appendonly="no")
        server.start()
        try:
            return _measure_on(server, rounds, calls)
        finally:
            server.kill()


def _measure_on(server: Server, rounds: int, calls: int) -> list[Row]:
    client = redis.Redis(port=server.port)
    nothing = client.script_load("return 1")
    size = calls * 2
    with (
        RemoteQueue[bytes](server.url("plain"), create=True, capacity=size) as plain,
        RemoteQueue[bytes](server.url("leased"), create=True, capacity=size, leases=_BATCH) as leased,
    ):

        def pipeline() -> None:
            with client.pipeline(transaction=False) as many:
                for _ in range(_BATCH):
                    many.lpush("pipeline", ITEM)
                many.execute()

        def lease() -> None:
            with leased.lease():
                pass

        batch = [ITEM] * _BATCH
        kinds: list[tuple[str, float, int, Callable[[], object]]] = [
            ("round trip", 1, 1, lambda: client.evalsha(nothing, 0)),
            ("LPUSH", 1, 1, lambda: client.lpush("list", ITEM)),
            ("BRPOP", 1, 1, lambda: client.brpop(["list"], 1)),
            ("put", 1, 1, lambda: plain.put(ITEM)),
            ("get", 2, 1, plain.get),
            ("put, with leases", 1, 1, lambda: leased.put(ITEM)),
            ("lease, done", 2, 1, lease),
            ("pipeline of LPUSH", 1 / _BATCH, _BATCH, pipeline),
            ("put_batch", 1 / _BATCH, _BATCH, lambda: plain.put_batch(batch)),
            ("get_batch", 2 / _BATCH, _BATCH, lambda: plain.get_batch(_BATCH)),
        ]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name, *_ in kinds}
        for _ in range(rounds):
            for name, _trips, items, call in kinds:
                found[name].append(_timed(call, calls // items, items))
        plain.unlink()
        leased.unlink()
    client.close()
    return [
        Row(name, trips, statistics.median(wall for wall, _ in found[name]), min(cpu for _, cpu in found[name]))
        for name, trips, *_ in kinds
    ]


def _timed(call: Callable[[], object], times: int, items: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        call()
    each = 1e6 / times / items
    return (time.perf_counter() - wall) * each, (time.process_time() - cpu) * each


def lines(rows: list[Row]) -> list[str]:
    """Return the rows as text, each beside as many round trips as it is made of."""
    trip = rows[0]
    text = [f"{'':18} {'wall us':>9} {'client us':>9}   times as many round trips: wall, client"]
    for row in rows:
        beside = f"{row.wall / trip.wall / row.trips:9.2f} {row.client / trip.client / row.trips:6.2f}"
        text.append(f"{row.name:18} {row.wall:9.1f} {row.client:9.1f}   {beside if row.trips >= 1 else ''}".rstrip())
    return text
