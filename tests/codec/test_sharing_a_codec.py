"""A codec that threads share, that is entered again, or that is interrupted."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue.errors import SerializationError
from tests.support.items import Refusing
from tests.support.main_programs import POINT, DictStore, Enter, round_trip


class Nesting:
    def __init__(self, codec: Codec, inner: object) -> None:
        self.codec = codec
        self.inner = inner

    def __reduce__(self) -> Any:
        return Codec(DictStore()).decode, self.codec.encode(self.inner)


def test_reduce_may_encode(codec: Codec, enter: Enter) -> None:
    main = enter(POINT)
    point = main.Point(1, 2)
    codec.encode([point])
    for _ in range(3):
        payload, tag = codec.encode([point, Nesting(codec, [point, 5]), main.norm])
        assert codec.decode(payload, tag) == [point, [point, 5], main.norm]


def test_an_interrupted_encode_harms_no_other(codec: Codec, enter: Enter) -> None:
    main = enter(POINT)
    for _ in range(3):
        for error in (KeyboardInterrupt(), ValueError()):
            with pytest.raises((KeyboardInterrupt, SerializationError)):
                codec.encode([main.Point(1, 2), Refusing(error)])
            assert round_trip(codec, [main.Point(3, 4)]) == [main.Point(3, 4)]


def test_threads_may_share_a_codec(codec: Codec, enter: Enter) -> None:
    main = enter(POINT)
    failures: list[object] = []

    def work(number: int) -> None:
        for n in range(300):
            items = [main.Point(number, n), [n, main.norm], {"n": n}, [b"\x93" * 3000, n]]
            failures.extend(item for item in items if round_trip(codec, item) != item)
            if n % 50 == 0 and round_trip(codec, lambda n=n: n)() != n:
                failures.append(n)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
