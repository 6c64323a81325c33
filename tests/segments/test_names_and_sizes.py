"""Which names, run_ids and sizes a queue can have."""

from __future__ import annotations

from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.places import SHM
from tests.support.segments import create, remove, segments_of, works

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


BAD_NAMES: list[tuple[Any, str]] = [
    ("", "must not be empty"),
    ("a/b", "must not contain '/' or NUL"),
    ("/", "must not contain '/' or NUL"),
    ("a\0b", "must not contain '/' or NUL"),
    ("x" * 300, "choose shorter"),
    ("ä" * 130, "choose shorter"),
    ("\ud800", "encodable as UTF-8"),
    (b"q", "must be a str, not bytes"),
    (None, "must be a str, not NoneType"),
    (7, "must be a str, not int"),
]


@pytest.mark.parametrize("creating", [True, False])
@pytest.mark.parametrize(("name", "message"), BAD_NAMES)
def test_a_name_that_no_segment_can_have_is_refused(
    run_id: str, no_leaks: None, name: Any, message: str, creating: bool
) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        SharedMemoryQueue(name, create=creating, run_id=run_id)
    assert isinstance(caught.value, ValueError)


def test_a_url_is_for_another_function_and_not_repeated() -> None:
    with pytest.raises(ArgumentError, match=r"open_queue\(url\)") as caught:
        SharedMemoryQueue("redis://user:secret@host:6379/0#q")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("run_id_", "message"), [case for case in BAD_NAMES if case[0] != ""])
def test_a_run_id_that_no_segment_can_have_is_refused(run_id_: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SharedMemoryQueue("q", create=True, run_id=run_id_)


@pytest.mark.parametrize("name", ["ä", "a b", "a\nb", ".", "..", "-", "q-queue", "%s", "名前", "a" * 40])
def test_every_other_name_is_one(run_id: str, name: str) -> None:
    with SharedMemoryQueue(name, create=True, capacity=3, run_id=run_id) as q:
        assert segments_of(run_id) == {f"{run_id}-{name}-queue", f"{run_id}-{name}-queue-lock"}
        with SharedMemoryQueue(name, run_id=run_id) as other:
            q.put(name)
            assert other.get() == name
        q.unlink()


def test_the_longest_name_works_and_one_byte_more_is_refused(run_id: str) -> None:
    longest = "n" * (255 - len("-lock") - len(f"{run_id}--queue"))
    with SharedMemoryQueue(longest, create=True, capacity=3, run_id=run_id) as q:
        assert works(q)
        q.unlink()
    with pytest.raises(ArgumentError, match=r"251 bytes .* limit is 250"):
        SharedMemoryQueue(longest + "n", create=True, capacity=3, run_id=run_id)


def test_without_a_run_id_the_segment_has_the_name_alone(run_id: str) -> None:
    with SharedMemoryQueue(run_id, create=True, capacity=3) as q:
        assert segments_of(run_id) == {f"{run_id}-queue", f"{run_id}-queue-lock"}
        assert q.run_id == ""
        q.unlink()
    assert segments_of(run_id) == set()


@pytest.mark.parametrize("what", ["capacity", "item_size"])
@pytest.mark.parametrize("value", [0, -1, True, 1.0, "3", None, 1 << 32, 1 << 100, float("inf")])
def test_a_size_that_cannot_be_is_refused_at_once(run_id: str, no_leaks: None, what: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"{what} must be ") as caught:
        create(run_id, **{what: value})
    assert isinstance(caught.value, ValueError)
    if type(value) is int:
        assert "between 1 and" in str(caught.value), "what to do"


def test_sizes_that_are_absurd_only_together_are_refused(run_id: str, no_leaks: None) -> None:
    with pytest.raises(ArgumentError, match="choose a smaller capacity or item_size"):
        create(run_id, capacity=1 << 31, item_size=(1 << 31) - 1)


@pytest.mark.parametrize("mode", ["", "MPMC", "mpsc", None, 1, []])
def test_a_mode_that_does_not_exist_is_refused(run_id: str, no_leaks: None, mode: Any) -> None:
    with pytest.raises(ArgumentError, match=r"'mpmc' .* or 'spsc'"):
        create(run_id, mode=mode)


def test_capacity_and_item_size_may_be_1(run_id: str) -> None:
    q = create(run_id, capacity=1, item_size=1)
    q.put(b"x")
    assert q.full()
    assert q.get() == b"x"
    remove(q)
