"""Whatever is passed as an argument works or is refused by name."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.hostile_settings import ALLOWED, few
from tests.support.queues import MakeQueue

counter = itertools.count()


class Mute:
    """Has no text for a message."""

    def __repr__(self) -> str:
        raise RuntimeError("no text for you")


class Color(str, enum.Enum):  # noqa: UP042 (not StrEnum, which shows itself as its text)
    RED = "red"


NUMBERS = st.one_of(
    st.integers(-(10**6), 10**5),  # more may be a queue, of gigabytes
    st.sampled_from([10**400, -(10**400), 10**5000, -(10**5000), 1 << 31, (1 << 31) + 1, 1 << 63, 1 << 64]),
    st.floats(),
    st.booleans(),
    st.fractions(),
    st.decimals(),
    st.complex_numbers(),
)


ANYTHING = st.one_of(NUMBERS, st.none(), st.text(), st.binary(), st.just([]), st.builds(object), st.just(Color.RED))
LONGEST = 600  # characters of a message, whatever the value that it refuses


def refused(call: Callable[[], Any], *names: str, also: tuple[type[Exception], ...] = ()) -> bool:
    """Return whether a call is refused, with a message that names the argument; it may be answered otherwise."""
    try:
        call()
    except (ArgumentError, *also) as error:  # type: ignore[misc]
        text = str(error)
        assert any(name in text for name in names), text
        assert len(text) < LONGEST
        return True
    except ALLOWED:
        pass
    return False


@few
@given(value=ANYTHING)
@example(10**5000)
@pytest.mark.parametrize("what", ["capacity", "item_size", "mode", "engine"])
def test_any_argument_makes_a_queue_or_is_refused_by_name(run_id: str, what: str, value: Any) -> None:
    arguments = {"capacity": 1, "item_size": 1, what: value}
    made: list[SharedMemoryQueue] = []
    is_refused = refused(
        lambda: made.append(SharedMemoryQueue("q", create=True, run_id=run_id, **arguments)), what, "segment"
    )
    assert is_refused is not bool(made) or not is_refused
    for q in made:
        q.close()
        q.unlink()


@few
@given(
    name=st.one_of(ANYTHING, st.text(min_size=200, max_size=300)), run_id_=st.one_of(st.just(""), st.text(), NUMBERS)
)
@example(10**5000, "")
def test_any_name_finds_its_queue_or_is_refused(run_id: str, name: Any, run_id_: Any) -> None:
    prefixed = f"{run_id}-{run_id_}" if isinstance(run_id_, str) else run_id_
    made: list[SharedMemoryQueue] = []
    if refused(
        lambda: made.append(SharedMemoryQueue(name, create=True, capacity=1, item_size=8, run_id=prefixed)),
        "name",
        "run_id",
    ):
        with pytest.raises(ArgumentError):
            SharedMemoryQueue(name, run_id=prefixed)
        return
    [q] = made
    with q, SharedMemoryQueue(name, run_id=prefixed) as other:
        q.put(1)
        assert other.get() == 1
        q.unlink()


def test_a_name_that_is_an_enum_is_its_text(make_queue: MakeQueue, run_id: str) -> None:
    """Its own way to show itself differs between versions of Python, and so would the segment's name."""
    q = make_queue(Color.RED)
    assert (q.name, type(q.name)) == ("red", str)
    with SharedMemoryQueue("red", run_id=run_id) as other:
        other.put(1)
    assert q.get() == 1


@pytest.mark.costly
@few
@given(timeout=ANYTHING, block=st.booleans())
@example(10**400, True)
@example(-(10**5000), True)
@example(1.0, True)
@pytest.mark.parametrize("call", ["put", "get", "put_batch", "get_batch"])
def test_any_timeout_is_waited_for_or_refused(
    make_queue: MakeQueue, each_engine: str, call: str, timeout: Any, block: bool
) -> None:
    q = make_queue(f"{call}{next(counter)}", capacity=2)
    q.put(1)  # nothing to wait for
    given: dict[str, list[Any]] = {"put": [2], "get": [], "put_batch": [[2]], "get_batch": [2]}
    arguments = given[call]
    is_refused = refused(lambda: getattr(q, call)(*arguments, block, timeout), "timeout", also=(TypeError,))
    assert q.qsize() == (1 if is_refused else 2 if call.startswith("put") else 0), "a refused call does nothing"
    q.close()
    q.unlink()


@few
@given(limit=ANYTHING)
@example(-(10**5000))
@example(10**5000)
def test_any_limit_of_a_batch_is_kept_or_refused(make_queue: MakeQueue, each_engine: str, limit: Any) -> None:
    q = make_queue(f"q{next(counter)}", capacity=2)
    q.put(1)
    got: list[Any] = []
    is_refused = refused(lambda: got.extend(q.get_batch(limit, False)), "max_items")
    assert got == ([] if is_refused else [1])
    q.close()
    q.unlink()


@pytest.mark.parametrize("what", ["name", "run_id", "capacity", "item_size", "mode", "engine"])
def test_a_value_without_a_text_is_refused_all_the_same(run_id: str, what: str) -> None:
    arguments: dict[str, Any] = {"name": "q", "run_id": run_id, what: Mute()}
    with pytest.raises(ArgumentError, match=f"{what} must be .*Mute"):
        SharedMemoryQueue(create=True, **arguments)
