"""What a queue states of its format: which processes attach, what a child gets, what an operator sees."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_multiprocess_queue import CorruptQueueError, QueueMismatchError, SharedMemoryQueue
from shared_multiprocess_queue._ring import stated_format
from shared_multiprocess_queue._ring.layout import FORMAT_AT, FORMAT_NAME_AT, FORMAT_NAME_SIZE, WORD
from shared_multiprocess_queue._ring.layout import FORMATS as FORMATS_OF_HEADER
from tests.support.hostile_settings import few
from tests.support.own_formats import from_json, to_json
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

OWN = "tests.support.own_formats:to_json tests.support.own_formats:from_json"
FORMATS: dict[str, dict[str, Any]] = {
    "pickle": {},
    "plain": {"serializer": "plain"},
    OWN: {"dumps": to_json, "loads": from_json},
    f"{OWN.split(maxsplit=1)[0]} builtins:bytes": {"dumps": to_json, "loads": bytes},
}
WAYS_TO_ASK = {
    "pickle": "serializer='pickle' (the default)",
    "plain": "serializer='plain'",
    OWN: "dumps=tests.support.own_formats:to_json and loads=tests.support.own_formats:from_json",
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_seen(make_queue: MakeQueue, each_engine: str, run_id: str, name: str) -> None:
    q = make_queue(**FORMATS[name])
    assert q.serializer == q.get_metrics()["serializer"] == name
    assert (f"serializer={name!r}" in repr(q)) == (name != "pickle")
    with SharedMemoryQueue("q", run_id=run_id, **FORMATS[name]) as other:
        assert other.serializer == name


@pytest.mark.parametrize("found", FORMATS)
@pytest.mark.parametrize("asked", FORMATS)
def test_a_process_that_asks_for_another_format_is_refused(
    make_queue: MakeQueue, each_engine: str, run_id: str, found: str, asked: str
) -> None:
    make_queue(**FORMATS[found])
    if asked == found:
        SharedMemoryQueue("q", create=True, exist_ok=True, capacity=3, run_id=run_id, **FORMATS[asked]).close()
        return
    for arguments in ({}, {"create": True, "exist_ok": True, "capacity": 3}):
        with pytest.raises(QueueMismatchError) as caught:
            SharedMemoryQueue("q", run_id=run_id, **arguments, **FORMATS[asked])  # type: ignore[arg-type]
        assert (caught.value.asked, caught.value.found) == ({"serializer": asked}, {"serializer": found})
        text = str(caught.value)
        if found in WAYS_TO_ASK:
            assert f"are written with {WAYS_TO_ASK[found]}," in text
            assert f"open it with {WAYS_TO_ASK[found]}," in text
        if asked in WAYS_TO_ASK:
            assert f"this process asks for {WAYS_TO_ASK[asked]};" in text
        assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_sizes_and_format_that_differ_are_named_together(make_queue: MakeQueue, each_engine: str, run_id: str) -> None:
    make_queue(capacity=3, serializer="plain")
    with pytest.raises(QueueMismatchError) as caught:
        SharedMemoryQueue("q", create=True, exist_ok=True, capacity=5, run_id=run_id)
    assert caught.value.asked == {"capacity": 5, "serializer": "pickle"}
    assert caught.value.found == {"capacity": 3, "serializer": "plain"}
    text = str(caught.value)
    assert "are written with serializer='plain', and this process asks for serializer='pickle' (the default)" in text
    assert "; it has capacity=3, not 5, too; open it with serializer='plain'," in text
    assert ", and with capacity=3;" in text


def test_a_format_that_there_is_not_is_damage(make_queue: MakeQueue, each_engine: str, run_id: str) -> None:
    q = make_queue(serializer="plain")
    words = q._membership.memory.words()
    before = words.load(FORMAT_AT)
    for number in (7, FORMATS_OF_HEADER.index("own")):  # the second without a name
        words.store(FORMAT_AT, number)
        with pytest.raises(CorruptQueueError, match=r"header of queue 'q' is damaged: .* format of its items"):
            SharedMemoryQueue("q", run_id=run_id, serializer="plain")
    words.store(FORMAT_AT, before)
    SharedMemoryQueue("q", run_id=run_id, serializer="plain").close()


@pytest.mark.parametrize("name", [*FORMATS][1:3])
def test_a_handle_takes_its_format_along(make_queue: MakeQueue, each_engine: str, name: str) -> None:
    q = make_queue(**FORMATS[name])
    for other in (pickle.loads(pickle.dumps(q)), copy.copy(q), copy.deepcopy(q)):
        with other:
            assert other.serializer == name
            other.put({"a": [1]})
            assert q.get() == {"a": [1]}


def echo(q: SharedMemoryQueue, answers: SharedMemoryQueue) -> None:
    answers.put([q.get(timeout=LONG), q.serializer])


@pytest.mark.parametrize("name", [*FORMATS][1:3])
def test_children_read_and_write_as_their_parent(
    make_queue: MakeQueue, engines: str, start_method: str, name: str
) -> None:
    q, answers = make_queue(**FORMATS[name]), make_queue("answers", **FORMATS[name])
    child = multiprocessing.get_context(start_method).Process(target=echo, args=(q, answers))  # type: ignore[attr-defined]
    child.start()
    q.put({"a": [1]})
    assert answers.get(timeout=LONG) == [{"a": [1]}, name]
    child.join(LONG)
    assert child.exitcode == 0


def test_a_handle_whose_functions_have_no_place_does_not_pickle(make_queue: MakeQueue) -> None:
    def local(item: object) -> bytes:
        return to_json(item)

    q = make_queue(dumps=local, loads=from_json)
    with pytest.raises((AttributeError, pickle.PicklingError), match="local"):
        pickle.dumps(q)


# ---- the words of the header ----------------------------------------------------------------------------------------


class Memory(dict[int, int]):
    """Words of a header."""

    load = dict.__getitem__
    store = dict.__setitem__


@pytest.mark.parametrize("name", ["pickle", "plain", OWN, "m:é m:ü", "m:" + "x" * (FORMAT_NAME_SIZE - 2)])
def test_a_name_is_read_as_it_was_written(name: str) -> None:
    words: Any = Memory()
    assert stated_format.stated(name) == name
    stated_format.write(words, name)
    assert stated_format.read(words) == name
    assert stated_format.is_known(name)


def test_a_name_that_is_too_long_is_stated_in_short() -> None:
    long = [f"module:{'x' * 150}{end} module:loads" for end in "ab"]
    short = [stated_format.stated(name) for name in long]
    assert short[0] != short[1]
    assert all(len(name.encode()) == FORMAT_NAME_SIZE and stated_format.is_known(name) for name in short)
    assert [stated_format.stated(name) for name in short] == short


@few
@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_name_can_be_stated(name: str) -> None:
    words: Any = Memory()
    short = stated_format.stated(f"m:{name}")
    stated_format.write(words, short)
    assert stated_format.read(words) == short
    assert short.isprintable()


@few
@given(
    st.integers(0, (1 << 64) - 1) | st.integers(0, 4), st.binary(min_size=FORMAT_NAME_SIZE, max_size=FORMAT_NAME_SIZE)
)
def test_any_words_are_a_text_that_can_be_shown(number: int, name: bytes) -> None:
    words: Any = Memory({FORMAT_AT: number})
    for at in range(0, FORMAT_NAME_SIZE, WORD):
        words[FORMAT_NAME_AT + at] = int.from_bytes(name[at : at + WORD], "little")
    assert stated_format.read(words).isprintable()
    error = QueueMismatchError("q", {"serializer": "plain"}, {"serializer": stated_format.read(words)})
    assert "open it with" in str(error)
