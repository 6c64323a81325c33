"""Workers that await, and are killed at any moment: each item is processed, and no other process waits for the dead."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._ring import parking
from tests.support.children import fork, running
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG

ITEMS = 3000
KILLS = 40


def work(name: str, run_id: str, engine: Any, diary: str) -> None:
    """Process items in tasks until the end; note each before its lease ends."""
    with SharedMemoryQueue(name, run_id=run_id, engine=engine) as jobs:
        descriptor = os.open(diary, os.O_WRONLY | os.O_APPEND)

        async def take() -> None:
            while True:
                try:
                    async with jobs.lease_async(timeout=random.choice([None, 1e-3])) as lease:
                        os.write(descriptor, b"%d\n" % lease.item)
                        if lease.item % 7 == 0:
                            await asyncio.sleep(0)
                except jobs.Empty:
                    pass
                except jobs.ShutDown:
                    return

        async def main() -> None:
            await asyncio.gather(*(take() for _ in range(3)))

        asyncio.run(main())


def produce(jobs: SharedMemoryQueue, pauses: float) -> None:
    async def main() -> None:
        for i in range(0, ITEMS, 3):
            await jobs.put_async(i)
            await jobs.put_batch_async([i + 1, i + 2])
            if i % 60 == 0:
                await asyncio.sleep(pauses)  # so that workers fall asleep

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("engines_of_workers", [("native", "atomics"), ("atomics", "atomics"), ("native", "native")])
def test_workers_that_await_and_are_killed(
    make_queue: MakeQueue,
    each_engine: Any,
    engines_of_workers: tuple[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared_multiprocess_queue._engine.awaiting.SLICE", parking.SLICE)
    jobs = make_queue(capacity=3, leases=8, engine=each_engine)
    diary = tmp_path / "diary"
    diary.touch()
    chance = random.Random(5)

    def start(number: int) -> int:
        engine = engines_of_workers[number % 2]
        return fork(lambda: work(jobs.name, jobs.run_id, engine, str(diary)))

    workers = [start(number) for number in range(3)]
    try:
        with running("fork", produce, jobs, 0.005) as producer:
            for kill in range(KILLS):
                time.sleep(chance.random() * 0.03)
                victim = chance.randrange(len(workers))
                os.kill(workers[victim], signal.SIGKILL)
                os.waitpid(workers[victim], 0)
                workers[victim] = start(kill)
            assert wait([producer.sentinel], LONG)
        assert jobs.join(timeout=LONG)
        jobs.shutdown()
        for worker in workers:
            assert os.waitpid(worker, 0)[1] == 0
        workers.clear()
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
    done = [int(line) for line in diary.read_text().splitlines()]
    assert set(done) == set(range(ITEMS))
    assert len(done) <= ITEMS + KILLS * 3  # only what a victim had may have come twice
