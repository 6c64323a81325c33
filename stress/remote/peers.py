"""Other queues on the same server: kombu's SimpleQueue, RQ and arq, each if it is installed.

What they do for an item is not the same: kombu has no bound and no batches, and an item that was got comes back an hour
after its consumer has died; RQ and arq are jobs with results, so an item here is a job that does nothing, taken and
finished by a worker in this process. arq has an asyncio client alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from typing import Any, NamedTuple

import redis

NAMES = ("kombu", "rq", "arq")


class Peer(NamedTuple):
    """Another queue.

    Attributes:
        put: puts one item.
        take: takes and ends so many.
    """

    put: Callable[[bytes], object]
    take: Callable[[int], object]


def work(item: bytes) -> None:
    """Be the job of an item."""


async def awaited_work(context: Any, item: bytes) -> None:
    """Be the job of an item for arq."""


def missing() -> list[str]:
    """Return the peers that are not installed."""
    return [name for name in NAMES if not _is_there(name)]


def _is_there(name: str) -> bool:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(name))
    return False


@contextlib.contextmanager
def opened(port: int) -> Iterator[dict[str, Peer]]:
    """Open those that are installed on a server."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(_OPEN[name](port)) for name in NAMES if _is_there(name)}


@contextlib.contextmanager
def _kombu(port: int) -> Iterator[Peer]:
    kombu: Any = import_module("kombu")
    with kombu.Connection(f"redis://127.0.0.1:{port}/1") as connection:
        queue = connection.SimpleQueue("kombu")

        def take(count: int) -> None:
            for _ in range(count):
                queue.get(timeout=10).ack()

        yield Peer(queue.put, take)
        queue.close()


@contextlib.contextmanager
def _rq(port: int) -> Iterator[Peer]:
    rq: Any = import_module("rq")
    with redis.Redis(port=port, db=2) as client:
        queue = rq.Queue(connection=client)
        worker = rq.SimpleWorker([queue], connection=client)
        yield Peer(
            lambda item: queue.enqueue(work, item, result_ttl=0),
            lambda count: worker.work(burst=True, max_jobs=count, logging_level="ERROR"),
        )


@contextlib.contextmanager
def _arq(port: int) -> Iterator[Peer]:
    arq, connections, workers = (import_module(name) for name in ("arq", "arq.connections", "arq.worker"))
    logging.getLogger("arq").setLevel(logging.ERROR)
    settings = connections.RedisSettings(port=port, database=3)
    with asyncio.Runner() as runner:
        pool = runner.run(arq.create_pool(settings))

        async def take(count: int) -> None:
            worker = workers.Worker(
                [workers.func(awaited_work, name="work")],
                redis_pool=pool,
                burst=True,
                max_burst_jobs=count,
                keep_result=0,
                poll_delay=0.001,
                handle_signals=False,
            )
            await worker.main()

        yield Peer(
            lambda item: runner.run(pool.enqueue_job("work", item)),
            lambda count: runner.run(take(count)),
        )
        runner.run(pool.aclose())


_OPEN: dict[str, Callable[[int], contextlib.AbstractContextManager[Peer]]] = {"kombu": _kombu, "rq": _rq, "arq": _arq}
