"""Lease slots, and words that name them, that hold anything at all: each call ends, with an error that says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from shared_multiprocess_queue import (
    CorruptQueueError,
    DeserializationError,
    Empty,
    Full,
    LeaseLostError,
    LeasesHeldError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._ring import layout
from stress.hostile import staging
from tests.support.queues import MakeQueue

ALLOWED = (Empty, Full, CorruptQueueError, DeserializationError, LeaseLostError, LeasesHeldError)
pytestmark = pytest.mark.filterwarnings("ignore:.*given back:ResourceWarning")


def some_word(rng: Random, q: SharedMemoryQueue) -> int:
    position = rng.choice([0, 1, 2, 3, 4, rng.getrandbits(61)])
    return rng.choice(
        [
            rng.getrandbits(64),
            position,
            layout.given_word(position, rng.choice([0, 1, 2, 0xFFFF])) & layout.WORD_MASK,
            (position << layout.STATE_BITS | rng.randrange(3)) & layout.WORD_MASK,
            q._membership.participants.owner,
            layout.owner_of(rng.randrange(1 << 22), rng.getrandbits(34), 1),
            (1 << 64) - 1,
        ]
    )


def calls(q: SharedMemoryQueue) -> list[Callable[[], object]]:
    return [
        lambda: q.put_nowait(1),
        lambda: q.get(False),
        lambda: q.lease_batch(2, block=False),
        lambda: q.join(0),
        lambda: q.put_batch([1, 2], block=False),
        lambda: (q.qsize(), q.empty(), q.full(), repr(q), q.get_metrics()),
    ]


@pytest.mark.parametrize("seed", range(25))
def test_any_words_of_leases_end_in_an_answer(make_leased: MakeQueue, seed: int) -> None:
    rng = Random(seed)
    q = make_leased(capacity=2, item_size=64)
    q.put_batch([1, 2])
    leases = q.lease_batch(2)
    q.put_nowait(3)
    stage = staging.Stage(q)
    places = [layout.RETURNED_AT, layout.LOOK_AT]
    places += [layout.SLOTS_START + slot * q._geometry.stride for slot in range(2)]
    first, count = q._geometry.lease_heads, 2 * layout.LEASE_HEAD_SIZE // layout.WORD
    places += [first + number * layout.WORD for number in range(count)]
    for place in rng.sample(places, rng.randint(1, 6)):
        stage.write(place, some_word(rng, q))
    for call in calls(q):
        with suppress(*ALLOWED):
            call()
    for lease in leases:
        with suppress(*ALLOWED):
            lease.done()


def test_a_word_that_names_no_lease_slot_is_damage(make_leased: MakeQueue) -> None:
    q = make_leased(capacity=1)
    q.put(1)
    stage = staging.Stage(q)
    stage.write(layout.SLOTS_START, layout.given_word(0, 2))
    stage.write(layout.HEAD, 1)
    with pytest.raises(CorruptQueueError):
        q.put(1, timeout=0)
    with pytest.raises(CorruptQueueError):
        q.get(timeout=0)


def test_a_word_that_names_a_lease_slot_is_damage_where_there_are_none(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=1, engine="atomics")
    stage = staging.Stage(q)
    stage.write(layout.SLOTS_START, layout.given_word(0, 0))
    with pytest.raises(CorruptQueueError):
        q.put(1, timeout=0)
    with pytest.raises(CorruptQueueError):
        q.get(timeout=0)
