"""shmq gc beside programs that make, attach to and leave one queue: it takes none that is used, and no half of one."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from random import Random

import pytest

from shared_multiprocess_queue import QueueNotFoundError
from shared_multiprocess_queue.cli import removals
from shared_multiprocess_queue.looking.files import NOT_LOOKED, look_at
from tests.support.children import end_of, fork
from tests.support.places import SHM
from tests.support.segments import attach, create, segments_of, works
from tests.support.steps import has_died, start_to_die_at
from tests.support.waiting import LONG

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]

STEPS = 5000
"""Twice as many as a collector takes, so that half of them come to their end."""

MAKERS = 2
"""The others attach to what is there."""


def use(run_id: str, number: int, folder: Path) -> None:
    """Open the queue again and again, use it, and see that it has its name as long as it is open."""
    path, rng = SHM / f"{run_id}-q-queue", Random(number)
    makes = number < MAKERS
    inodes = set()
    while not (folder / "over").exists():
        time.sleep(rng.random() * 0.1)  # in which no program may use it
        try:
            q = create(run_id, exist_ok=True) if makes else attach(run_id)
        except QueueNotFoundError as error:
            assert not makes
            assert "incomplete" not in str(error)  # noqa: PT017
            continue
        with q:
            inodes.add(path.stat().st_ino)
            time.sleep(rng.random() * 0.05)  # in which it looks as it did when no program used it
            q.put("item", timeout=LONG)
            assert q.get(timeout=LONG) == "item"
            assert path.stat().st_ino == q._membership.segment.identity()[1], "it has lost its name while it is used"
    (folder / str(number)).write_text(str(len(inodes)))


def collect(run_id: str) -> None:
    """Remove what is not used, as ``shmq gc --yes --with-items`` does."""
    queue = look_at(f"{run_id}-q-queue", NOT_LOOKED)
    if queue is not None and removals._is_unused(queue):
        removals._collect(queue)


@pytest.mark.parametrize("rounds", [80, pytest.param(2500, marks=pytest.mark.long)])
def test_gc_that_dies_at_any_step_beside_users_and_another_gc(run_id: str, rounds: int, tmp_path: Path) -> None:
    create(run_id).close()
    collect(run_id)  # imports what the collectors need
    users = [fork(partial(use, run_id, number, tmp_path)) for number in range(MAKERS + 1)]
    died = 0
    for step in range(0, 61 * rounds, 61):  # each of two, which run beside each other, dies at another one each time
        collectors = [start_to_die_at(at % STEPS, lambda: partial(collect, run_id)) for at in (step, step * 7 + 5)]
        died += sum(map(has_died, collectors))
    (tmp_path / "over").touch()
    assert [end_of(user) for user in users] == [0] * len(users)
    queues = [int((tmp_path / str(number)).read_text()) for number in range(len(users))]
    collect(run_id)
    assert segments_of(run_id) <= {f"{run_id}-q-queue-lock"}, "a collector that does not die takes all but such a lock"
    with create(run_id) as q:
        assert works(q)
        q.unlink()
    assert segments_of(run_id) == set()
    print(f"{died} died; {queues} queues were seen")
    assert died > 5
    assert max(queues) > 3, "the collectors have taken few queues"
