"""Arrays in items, and objects beside them that change them or are interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_multiprocess_queue._codec import buffers
from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue._codec.tags import BUFFERS
from tests.support.main_programs import DictStore

SMALLEST = buffers.SMALLEST
MANY = SMALLEST // 8  # float64 of a buffer that just goes beside the stream
LARGE = 1 << 20


def numbers(count: int = MANY, start: int = 0) -> Any:
    return np.arange(start, start + count, dtype=np.float64)


@dataclass
class Sample:
    """Runs no code of its own when it is pickled."""

    image: Any
    label: object


class Scales:
    """An array that is changed where its class is told that it was pickled, and where it is unpickled."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __getstate__(self) -> Any:
        self.array *= 2
        return {"array": self.array}

    def __setstate__(self, state: Any) -> None:
        state["array"] *= 3
        self.array = state["array"]


INTERRUPTS: list[BaseException] = []


class Interrupted:
    def __reduce__(self) -> Any:
        return interrupt, ()


def interrupt() -> str:
    if INTERRUPTS:
        raise INTERRUPTS.pop()
    return "done"


def tags_of(item: object) -> int:
    return Codec(DictStore()).encode(item)[1]


def assert_like(found: Any, expected: Any) -> None:
    """Two arrays, or containers of them, are of the same types and have the same contents and flags."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape, found.strides) == (expected.dtype, expected.shape, expected.strides)
        for flag in ("writeable", "c_contiguous", "f_contiguous", "aligned"):
            assert getattr(found.flags, flag) == getattr(expected.flags, flag), flag
        if expected.dtype.hasobject:
            assert found.tolist() == expected.tolist()
        else:
            assert found.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_like(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_like(one, other)
    else:
        assert found == expected


def is_kept(item: object) -> bool:
    """Whether the receiver keeps the bytes of an item, and the sender copied its arrays, as code in it may run."""
    payload, tag = Codec(DictStore()).encode(item)
    assert tag == BUFFERS
    return bool(buffers.whole(payload)[9])
