"""Bad input of every kind: damaged segments, wrong arguments, and objects that misbehave while they are (un)pickled."""

from __future__ import annotations

import math
import os
import struct
import threading
from collections.abc import Callable, Iterator
from queue import Empty, Full
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue import (
    ArgumentError,
    CorruptQueueError,
    DeserializationError,
    ItemTooLargeError,
    SerializationError,
    SharedMemoryQueue,
    SharedMemoryQueueError,
    _engine,
    _layout,
)
from stress import damage, hostile

from .conftest import RUN, MakeQueue

ENGINES = [engine for engine in get_args(damage.Engine) if engine != "native" or _engine.has_native()]
ALLOWED = (SharedMemoryQueueError, Empty, Full)

few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)


# ---- damaged segments -----------------------------------------------------------------------------------------------


@few
@given(st.randoms(use_true_random=False))
def test_a_damaged_segment_ends_in_clear_errors(rng: Random) -> None:
    case = damage.make_case(rng, tuple(ENGINES), tuple(hostile.CALLS))
    finding = hostile.Trial(case, 0, "hypothesis").wait()
    assert finding is None, f"{case}\n{finding.output if finding else ''}"


@pytest.mark.parametrize("base", [(1 << 62) - 4, (1 << 62) - 1, 1 << 62, 1 << 63, (1 << 64) - 1])
def test_positions_that_no_queue_reaches_do_no_harm(make_queue: MakeQueue, each_engine: str, base: int) -> None:
    q = make_queue(capacity=3)
    damage.Stage(q).place(base, 2)
    for _ in range(4):
        for call in hostile.CALLS:
            if call not in {"close", "unlink", "create again"}:
                try:
                    hostile.CALLS[call](q)
                except ALLOWED:
                    pass


@pytest.mark.parametrize("generation", [(1 << 48) - 1, 1 << 48, (1 << 64) - 1])
def test_generations_that_no_record_reaches_do_no_harm(
    make_queue: MakeQueue, each_engine: str, mode: str, generation: int, run_id: str
) -> None:
    q = make_queue(capacity=3, mode=mode)
    stage = damage.Stage(q)
    for index in range(1, 8):
        stage.write(_layout.record_at(index) + _layout.GENERATION, generation)
    with SharedMemoryQueue("q", run_id=run_id) as other:
        other.put(1)
        other.put_batch([2, 3])
        assert other.get_batch(3) == [1, 2, 3]
