"""What it costs to bury a dead put of thousands of slots: a number of steps that grows with them, and no faster."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared_multiprocess_queue._ring.ring import DONE
from stress.harness import copies, dying
from stress.native import sanitize
from tests.support import mortal
from tests.support.queues import MakeQueue, assert_works

COMPILER = copies.default_compiler()

SLOT = 16
SLOTS = 1000
MOST = 20 * SLOTS  # steps; one walk for each slot takes 500,000
BYTES = 1  # codec tag

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("published", [SLOTS // 2, pytest.param(0, marks=pytest.mark.slow)])
def test_in_python(make_queue: MakeQueue, published: int) -> None:
    queue = make_queue(capacity=2 * SLOTS, item_size=SLOT, max_item_size=SLOTS * SLOT, engine="atomics")
    looks = SLOTS + 20
    victim = bytes(SLOTS * SLOT)
    assert mortal.dies(queue.name, queue.run_id, lambda engine: engine.put((victim, BYTES), 0), looks + published)
    queue.put(b"next")
    fate = dying.Fate()
    with queue._membership.operation() as record:
        words = record.words
        record.words = dying.DyingWords(words, fate)  # type: ignore[assignment]
        while queue._membership.ring.try_get(record, 1, sure=True) != DONE:
            pass
        record.words = words
        taken, record.claim.taken = record.claim.taken, []
    assert taken == [(b"next", BYTES)]
    assert -fate.left < MOST
    assert queue.get_metrics()["dead_puts"] == SLOTS
    assert_works(queue)


PROGRAM = """
#include <stdint.h>
static unsigned long steps;
static void step(void)
{
    steps++;
}
#define SHMQ_STEP(label) step()
#include "segment.h"

static int no_wake(void *context, _Atomic uint64_t *word, int count)
{
    (void)context, (void)word, (void)count;
    return 0;
}

/* SLOTS PUBLISHED: a put dies, and a get passes it. Says how many steps that took. */
int main(int count, char **arguments)
{
    (void)count;
    const uint64_t slots = strtoul(arguments[1], NULL, 10), published = strtoul(arguments[2], NULL, 10);
    const uint64_t dead = life_begins();
    const struct shmq_calls calls = {life_is_alive, no_wake, NULL, NULL, life_now, NULL};
    struct shmq_ring ring;
    struct shmq_participant me;
    uint64_t position, claimed, tries = 0;
    shmq_open(&ring, segment_new(2 * slots, 8, false), 2 * slots, 8, false, dead, calls);
    if (!shmq_take_record(&ring, &me) || shmq_claim_put(&ring, &me, slots, true, &position) != SHMQ_DONE) {
        return 1;
    }
    for (uint64_t p = slots; p-- > slots - published;) {
        shmq_write(&ring, p, &p, 8, 0, (uint32_t)p);
        atomic_store(&shmq_slot_of(&ring, p)->word, shmq_word_of(p, SHMQ_FULL));
    }
    life_ends(dead);
    ring.owner = life_begins();
    if (!shmq_take_record(&ring, &me) || shmq_claim_put(&ring, &me, 1, true, &position) != SHMQ_DONE) {
        return 2;
    }
    shmq_write(&ring, position, &position, 8, 0, 0);
    shmq_publish(&ring, &me, position, 1, 1);
    steps = 0;
    while (shmq_claim_get(&ring, &me, 1, true, &position, &claimed) != SHMQ_DONE) {
        if (tries++ == slots) {
            return 3;
        }
    }
    printf("%lu\\n", steps);
    return position == slots ? 0 : 4;
}
"""


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason="needs a C compiler")
def test_in_c(tmp_path: Path) -> None:
    source, binary = tmp_path / "burial.c", tmp_path / "burial"
    source.write_text(PROGRAM)
    includes = [argument for folder in (copies.HEADERS, sanitize.SOURCES) for argument in ("-I", folder)]
    command = [COMPILER, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread", *includes]
    subprocess.run([*command, "-o", binary, source], check=True)
    for published in (0, SLOTS // 2):
        done = subprocess.run([binary, str(SLOTS), str(published)], check=True, capture_output=True, timeout=60)
        assert int(done.stdout) < MOST
