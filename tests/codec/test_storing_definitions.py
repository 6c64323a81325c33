"""Definitions of ``__main__`` are stored once in the queue: without room, out of reach, or damaged."""

from __future__ import annotations

import sys

import pytest

from shared_multiprocess_queue._codec import codec as _codec
from shared_multiprocess_queue._codec import definitions as _defining
from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue.errors import DeserializationError, QueueClosedError
from tests.support.main_programs import POINT, DictStore, Enter


def test_without_room_the_definition_travels_with_the_item(enter: Enter) -> None:
    store = DictStore(room=0)
    codec = Codec(store)
    main = enter(POINT)
    for _ in range(2):
        payload, tag = codec.encode([main.Point(1, 2), main.norm])
        assert len(payload) > 1000
        assert type(codec.decode(payload, tag)[0]) is main.Point
    assert not store.definitions
    enter("")
    point, norm = Codec(DictStore()).decode(payload, tag)
    assert norm(point) == 3


def test_what_did_not_fit_is_stored_when_there_is_room(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_codec, "_REFUSED", 0)
    store = DictStore(room=0)
    codec = Codec(store)
    main = enter(POINT)
    codec.encode(main.Point(1, 2))
    store.room = 1 << 20
    assert len(codec.encode(main.Point(1, 2))[0]) < 200
    assert len(store.definitions) == 1


def test_what_the_store_has_just_refused_is_not_offered_again(enter: Enter) -> None:
    """A store that is held by a paused process refuses after a while; not every item is to wait for that."""
    store = DictStore(room=0)
    codec = Codec(store)
    main = enter(POINT)
    for number in range(5):
        codec.encode(main.Point(1, number))
    assert store.calls == 1


def test_an_item_whose_definition_is_out_of_reach_is_not_at_fault(codec: Codec, store: DictStore, enter: Enter) -> None:
    payload, tag = codec.encode(enter(POINT).Point(1, 2))
    enter("", "/nowhere/other.py")

    def closed(key: bytes) -> bytes | None:
        raise QueueClosedError("closed meanwhile")

    store.find = closed  # type: ignore[method-assign]
    with pytest.raises(QueueClosedError):
        codec.decode(payload, tag)


def test_a_definition_is_left_out_rather_than_the_item_too_large(enter: Enter) -> None:
    codec = Codec(DictStore(room=0), max_item_size=1000)
    main = enter(POINT)
    payload, tag = codec.encode(main.Point(1, 2))
    assert len(payload) < 200
    assert codec.decode(payload, tag) == main.Point(1, 2)
    for file, whose in (("/nowhere/other.py", "another program"), (None, "this program")):
        enter("", file)
        with pytest.raises(DeserializationError, match=f"'Point' is a name in the __main__ of {whose}"):
            codec.decode(payload, tag)


def test_a_missing_definition_says_what_is_missing(codec: Codec, store: DictStore, enter: Enter) -> None:
    payload, tag = codec.encode(enter(POINT).Point(1, 2))
    enter(POINT, "/nowhere/other.py")
    store.definitions.clear()
    with pytest.raises(DeserializationError, match=r"'Point'.*another program.*not in the queue.*define it") as caught:
        codec.decode(payload, tag)
    assert caught.value.raw == payload


@pytest.mark.parametrize("where", ["in the store", "along"])
def test_a_damaged_definition_is_not_built(enter: Enter, where: str) -> None:
    """Code with one flipped bit may do anything, also crash the interpreter."""
    store = DictStore(room=sys.maxsize if where == "in the store" else 0)
    payload, tag = Codec(store).encode(enter(POINT, "/nowhere/program.py").norm)
    definitions = store.definitions or _codec.loads(payload[payload.index(b"\x80\x05", 2) :])  # type: ignore[attr-defined]
    [(key, definition)] = definitions.items()
    for at in range(len(definition)):
        enter("", "/nowhere/other.py")
        damaged = bytearray(definition)
        damaged[at] ^= 1 << at % 8
        found = payload.replace(definition, damaged)
        store.definitions = {key: bytes(damaged)} if where == "in the store" else {}
        with pytest.raises(DeserializationError, match=r"the definition of 'norm', .*, is damaged") as caught:
            Codec(store).decode(found, tag)
        assert caught.value.raw == found
    store.definitions = {bytes(16): definition, key: definition} if where == "in the store" else {}
    assert Codec(store).decode(payload, tag).__name__ == "norm"


def test_a_definition_under_the_key_of_another_is_not_built(codec: Codec, store: DictStore, enter: Enter) -> None:
    main = enter(POINT, "/nowhere/program.py")
    point, _ = codec.encode(main.Point(1, 2)), codec.encode(main.norm)
    [first, second] = store.definitions
    store.definitions[first] = store.definitions[second]
    enter("", "/nowhere/other.py")
    with pytest.raises(DeserializationError, match="is damaged"):
        codec.decode(*point)


LOCKED = "import enum, threading\nclass Guard(enum.Enum):\n    OPEN = threading.Lock()"


def test_a_class_that_cannot_go_by_value_still_goes_by_name(codec: Codec, enter: Enter) -> None:
    main = enter(LOCKED)
    payload, tag = codec.encode([main.Guard])
    assert codec.decode(payload, tag) == [main.Guard]
    enter("", "/nowhere/other.py")
    with pytest.raises(
        DeserializationError, match=r"'Guard'.*could not send its definition.*member OPEN.*_thread\.lock"
    ):
        codec.decode(payload, tag)


def test_a_function_of_giant_size_still_goes_by_name(
    codec: Codec, store: DictStore, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_defining, "DEFINITION_SIZE", 1 << 16)
    main = enter(f"def text(): return {'a' * (1 << 17)!r}")
    payload, tag = codec.encode(main.text)
    assert codec.decode(payload, tag) is main.text
    assert store.size() < 1000
    enter("", "/nowhere/other.py")
    with pytest.raises(DeserializationError, match="more than 65,536 bytes"):
        codec.decode(payload, tag)
