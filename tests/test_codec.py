"""What the codec promises: everything arrives, and things of __main__ arrive as what they are to the reader."""

from __future__ import annotations

import collections
import datetime
import decimal
import functools
import json
import os
import pickle
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shared_multiprocess_queue
from shared_multiprocess_queue._codec import codec as _codec
from shared_multiprocess_queue._codec import definitions as _defining
from shared_multiprocess_queue._codec.codec import BYTES, CONSTANTS, FLOAT, INT, MAIN, PICKLE, STR, Codec
from shared_multiprocess_queue.errors import DeserializationError, QueueClosedError, SerializationError

PACKAGE_ROOT = Path(shared_multiprocess_queue.__file__).parent.parent
WATCHDOG = 60  # seconds


class DictStore:
    """A DefinitionStore of limited room."""

    def __init__(self, room: int = sys.maxsize) -> None:
        self.room = room
        self.definitions: dict[bytes, bytes] = {}
        self.calls = 0

    def add(self, key: bytes, definition: bytes) -> bool:
        self.calls += 1
        assert len(key) == 16
        if key not in self.definitions:
            if self.size() + len(definition) > self.room:
                return False
            self.definitions[key] = definition
        return True

    def find(self, key: bytes) -> bytes | None:
        assert len(key) == 16
        return self.definitions.get(key)

    def size(self) -> int:
        return sum(map(len, self.definitions.values()))


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def codec(store: DictStore) -> Codec:
    return Codec(store)


Enter = Callable[..., types.ModuleType]


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Make this process run another program: ``enter(source, file)`` replaces its ``__main__``.

    Definitions of classes that this process has made itself come back as these very classes, as cloudpickle remembers
    them. Whether a class was built from a definition is therefore a matter for tests with real processes.
    """

    def enter(source: str, file: str | None = None) -> types.ModuleType:
        main = types.ModuleType("__main__")
        if file is not None:
            main.__file__ = file
        monkeypatch.setitem(sys.modules, "__main__", main)
        monkeypatch.setitem(sys.modules, "__mp_main__", main)
        exec(source, main.__dict__)
        return main

    # What these programs leave behind must not be known to the next test.
    monkeypatch.setattr(_codec, "_known", _codec._Known())
    return enter


def round_trip(codec: Codec, item: object) -> Any:
    payload, tag = codec.encode(item)
    return codec.decode(bytes(bytearray(payload)), tag)  # nothing but the bytes gets through


# ---- plain data ------------------------------------------------------------------------------------------------------

MARKERS = [b"\x93", b"__main__", b"\x8c\x08__main__\x94\x8c\x01P\x94\x93", b"\x93" + bytes(5000) + b"__main__"]

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.sampled_from(MARKERS)
    | st.dates(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.builds(lambda value: b"%s" % repr(value).encode("utf-8", "surrogatepass"), inner)
    ),
    max_leaves=20,
)
shared_codec = Codec(DictStore())  # one for all examples: what it remembers of one must not harm the next


@given(plain)
@settings(deadline=None)
def test_plain_data_arrives_unchanged(item: object) -> None:
    payload, tag = shared_codec.encode(item)
    # A date says itself how it is reduced, so bytes beside it that look like a name cost the item a look.
    assert tag in {PICKLE, BYTES, STR, INT, FLOAT, *CONSTANTS} or (tag == MAIN and b"datetime" in payload)
    result = shared_codec.decode(payload, tag)
    assert repr(result) == repr(item)
    assert type(result) is type(item)


@pytest.mark.parametrize(
    "item",
    [
        {"a": 1, "b": [2.5, None]},
        (1, 2),
        datetime.datetime(2024, 5, 1),
        decimal.Decimal("1.5"),
        collections.OrderedDict(a=1),
        os.path.join,
    ],
)
def test_where_pickle_suffices_the_payload_is_pickles(codec: Codec, item: object) -> None:
    assert codec.encode(item) == (pickle.dumps(item, 5), PICKLE)


def test_bytes_are_not_copied(codec: Codec) -> None:
    item = bytes(4096)
    payload, tag = codec.encode(item)
    assert payload is item
    assert tag == BYTES
    assert codec.decode(payload, tag) is payload


def test_text_is_utf8(codec: Codec) -> None:
    assert codec.encode("grün") == ("grün".encode(), STR)


@pytest.mark.parametrize("item", ["\ud800", "a\udcffb", "\x00", ""])
def test_lone_surrogates_and_odd_text_arrive(codec: Codec, item: str) -> None:
    assert round_trip(codec, item) == item


INTS = [0, 1, -1, (1 << 63) - 1, -1 << 63]
FLOATS = [0.0, -0.0, 1.5, float("inf"), -float("inf"), float("nan"), 5e-324]


@pytest.mark.parametrize(
    ("item", "tag", "size"),
    [
        *((item, INT, 8) for item in INTS),
        *((item, FLOAT, 8) for item in FLOATS),
        *((v, t, 0) for t, v in CONSTANTS.items()),
    ],
)
def test_a_scalar_is_a_word_or_nothing_and_arrives_as_it_was(codec: Codec, item: object, tag: int, size: int) -> None:
    payload, used = codec.encode(item)
    assert (len(payload), used) == (size, tag)
    result = codec.decode(payload, used)
    assert repr(result) == repr(item)
    assert type(result) is type(item)


@pytest.mark.parametrize("item", [1 << 63, (-1 << 63) - 1, 1 << 200])
def test_an_int_of_more_than_a_word_is_pickled(codec: Codec, item: int) -> None:
    assert codec.encode(item) == (pickle.dumps(item, 5), PICKLE)


class Label(str):
    pass


class Blob(bytes):
    pass


@pytest.mark.parametrize("item", [Label("x"), Blob(b"x"), bytearray(b"x"), True, 1.0])
def test_the_exact_type_arrives(codec: Codec, item: object) -> None:
    result = round_trip(codec, item)
    assert type(result) is type(item)
    assert result == item


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("wrap", [list, tuple, lambda items: {"items": list(items)}])
def test_data_that_looks_like_a_name_of_main_is_only_data(
    codec: Codec, store: DictStore, enter: Enter, marker: bytes, wrap: Callable[[list[Any]], object]
) -> None:
    texts = [marker, marker.decode("latin-1"), "__main__"]
    for item, tags in ((wrap(texts), {PICKLE}), (wrap([*texts, datetime.date(2024, 1, 1)]), {PICKLE, MAIN})):
        for program in ("/nowhere/program.py", None):
            enter("", program)
            payload, tag = codec.encode(item)
            assert tag in tags
            assert codec.decode(payload, tag) == item
            enter("", "/nowhere/other.py")
            assert codec.decode(payload, tag) == item
    assert not store.definitions


@pytest.mark.parametrize("size", [100, 1 << 11, 1 << 16, 1 << 17, 1 << 20])
def test_large_binary_items_arrive_every_time(codec: Codec, size: int) -> None:
    items = [{"t": datetime.date(2024, 1, 1), "data": bytes([0x93]) * n} for n in (size, 5, size, 7)]
    for item in items:
        assert round_trip(codec, item) == item


class Unhashable(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("nobody may compare this class")


class OfUnhashable(metaclass=Unhashable):
    pass


def test_an_unhashable_class_is_refused_by_pickle_and_not_by_the_codec(codec: Codec) -> None:
    with pytest.raises(SerializationError, match="OfUnhashable cannot be serialised: TypeError: unhashable"):
        codec.encode(OfUnhashable())


# ---- by value --------------------------------------------------------------------------------------------------------


def test_a_lambda_arrives_by_value(codec: Codec) -> None:
    double = round_trip(codec, lambda x: 2 * x)
    assert double(21) == 42


def test_a_closure_keeps_what_it_closes_over(codec: Codec) -> None:
    def adder(n: int) -> Callable[[int], int]:
        return lambda x: x + n

    assert round_trip(codec, adder(3))(4) == 7


def test_a_local_class_arrives_by_value(codec: Codec) -> None:
    class Local:
        def answer(self) -> int:
            return 42

    assert round_trip(codec, Local()).answer() == 42


def test_what_is_registered_by_value_goes_by_value(codec: Codec) -> None:
    module = types.ModuleType("registered_module")
    exec("class Thing:\n    size = 3", module.__dict__)
    sys.modules["registered_module"] = module
    cloudpickle.register_pickle_by_value(module)
    try:
        small, large = codec.encode(module.Thing()), codec.encode([module.Thing(), b"\x93" * 5000])
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        del sys.modules["registered_module"]
    assert codec.decode(*small).size == 3
    assert codec.decode(*large)[0].size == 3


# ---- failures --------------------------------------------------------------------------------------------------------


def test_an_item_that_cannot_be_serialised_is_named_with_the_reason(codec: Codec) -> None:
    with pytest.raises(SerializationError, match=r"_thread\.lock cannot be serialised: TypeError") as caught:
        codec.encode(threading.Lock())
    assert isinstance(caught.value.__cause__, TypeError)


class Refusing:
    """Raises these errors, one each time that it is asked, and then gives in."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)

    def __reduce__(self) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return Refusing, ()


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@pytest.mark.parametrize("error", [ValueError("mine"), StopIteration(), MemoryError(), UnprintableError()])
def test_whatever_reduce_raises_is_a_serialization_error(codec: Codec, error: Exception) -> None:
    with pytest.raises(SerializationError, match="Refusing cannot be serialised") as caught:
        codec.encode(Refusing(error))
    assert caught.value.__cause__ is error


def test_too_deep_an_item_is_a_serialization_error(codec: Codec) -> None:
    item: list[Any] = []
    for _ in range(200_000):
        item = [item]
    with pytest.raises(SerializationError, match="recursion"):
        codec.encode(item)
    while item:  # or else freeing it would be as deep
        item = item.pop()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interruptions_pass_through_encode(codec: Codec, error: type[BaseException]) -> None:
    for items in ([], [b"\x93" * 3000]):
        with pytest.raises(error):
            codec.encode([Refusing(error()), *items])
        codec.encode([b"\x93" * 3000, datetime.date(2024, 1, 1)])
        with pytest.raises(error):
            codec.encode([Refusing(error()), *items])
        assert round_trip(codec, [1]) == [1]


def explode(error: BaseException) -> None:
    raise error


class Explosive:
    """Raises when it is read."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return explode, (self.error,)


@pytest.mark.parametrize("error", [ValueError("mine"), AttributeError("x"), UnprintableError()])
def test_whatever_loading_raises_is_a_deserialization_error_with_the_bytes(codec: Codec, error: Exception) -> None:
    payload, tag = codec.encode(Explosive(error))
    with pytest.raises(DeserializationError, match=f"{type(error).__name__}.*cannot|cannot be turned back") as caught:
        codec.decode(payload, tag)
    assert caught.value.raw == payload
    assert type(caught.value.__cause__) is type(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interruptions_pass_through_decode(codec: Codec, error: type[BaseException]) -> None:
    with pytest.raises(error):
        round_trip(codec, Explosive(error()))


class TwoArgumentsError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} {second}")


def test_an_exception_that_pickle_cannot_rebuild_is_a_deserialization_error(codec: Codec) -> None:
    payload, tag = codec.encode(TwoArgumentsError(1, 2))
    with pytest.raises(DeserializationError) as caught:
        codec.decode(payload, tag)
    assert caught.value.raw == payload


@pytest.mark.parametrize(("payload", "tag"), [(b"x", 99), (b"x", -1)])
def test_an_unknown_tag_is_a_deserialization_error(codec: Codec, payload: bytes, tag: int) -> None:
    with pytest.raises(DeserializationError, match=f"tag {tag}") as caught:
        codec.decode(payload, tag)
    assert caught.value.raw == payload


@pytest.mark.parametrize("tag", [PICKLE, STR, MAIN, INT, FLOAT, *CONSTANTS])
@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x80\x05.", bytes(20), b"\xff" * 50])
def test_damaged_bytes_are_a_deserialization_error(codec: Codec, payload: bytes, tag: int) -> None:
    if (tag == STR and payload in {b"", bytes(20)}) or (tag in CONSTANTS and not payload):
        pytest.skip("nothing is damaged")
    with pytest.raises(DeserializationError) as caught:
        codec.decode(payload, tag)
    assert caught.value.raw == payload


# ---- names of __main__, within one process ---------------------------------------------------------------------------

POINT = """
from dataclasses import dataclass
@dataclass
class Point:
    x: int
    y: int
def norm(point):
    return point.x + point.y
"""


def test_after_the_first_an_instance_of_main_is_small_and_stores_nothing(
    codec: Codec, store: DictStore, enter: Enter
) -> None:
    main = enter(POINT)
    first, _ = codec.encode(main.Point(1, 2))
    calls = store.calls
    payload, tag = codec.encode(main.Point(3, 4))
    assert tag == MAIN
    assert len(first) == len(payload) < len(pickle.dumps(main.Point(3, 4), 5)) + 30 < 200
    assert store.calls == calls == len(store.definitions) == 1
    assert codec.decode(payload, tag) == main.Point(3, 4)


def test_no_item_is_kept_alive(codec: Codec, enter: Enter) -> None:
    main = enter(POINT)
    for data in (b"", b"\x93" * 3000, b"\x93" * 100_000):
        item = main.Point(1, data)
        alive = weakref.ref(item)
        for _ in range(2):
            codec.encode(item)
        del item
        assert alive() is None


def test_what_a_definition_needs_is_stored_before_it(codec: Codec, store: DictStore, enter: Enter) -> None:
    main = enter("class Base: pass\nclass Derived(Base): pass")
    codec.encode(main.Derived())
    assert [b"Derived" in definition for definition in store.definitions.values()] == [False, True]


def test_an_item_with_names_of_two_editions_leaves_others_small(codec: Codec, enter: Enter) -> None:
    main = enter(POINT)
    sizes = [len(codec.encode(main.Point(1, 2))[0])]
    exec(POINT.split("def norm", maxsplit=1)[0], main.__dict__)
    codec.encode([main.norm, main.Point(1, 2)])
    codec.encode([main.norm, main.Point(1, 2)])
    sizes += [len(codec.encode(main.Point(1, 2))[0]) for _ in range(2)]
    assert len(set(sizes)) == 1


def test_what_moves_to_another_main_gets_its_name(codec: Codec, enter: Enter) -> None:
    first = enter(POINT, "/nowhere/one.py")
    item = first.Point(1, 2)
    codec.encode(item)
    enter("", "/nowhere/two.py").Point = first.Point
    assert codec.encode(item)[0] == Codec(DictStore()).encode(item)[0]
    assert codec.encode(item)[0].endswith(_codec._program().id)


def test_each_queue_gets_its_own_definitions(enter: Enter) -> None:
    main = enter(POINT)
    stores = DictStore(), DictStore()
    for store in stores:
        Codec(store).encode(main.Point(1, 2))
    assert stores[0].definitions == stores[1].definitions
    assert len(stores[1].definitions) == 1


def test_methods_belong_to_the_definition_of_their_class(codec: Codec, store: DictStore, enter: Enter) -> None:
    main = enter("class A:\n    def f(self): return 1\n    class B:\n        pass\nclass C(A):\n    pass")
    codec.encode(main.C())
    assert len(store.definitions) == 3  # C, A and A.B


def test_items_without_names_of_main_stay_plain_among_others(codec: Codec, enter: Enter) -> None:
    main = enter(POINT)
    items = [[main.Point(1, 2)], [1], [main.Point(1, 2)], [2], [b"\x93" * 3000], [main.norm, b"\x93" * 70000], [3]]
    for _ in range(2):
        tags = []
        for item in items:
            payload, tag = codec.encode(item)
            tags.append(tag)
            assert codec.decode(payload, tag) == item
        assert tags == [MAIN, PICKLE, MAIN, PICKLE, PICKLE, MAIN, PICKLE]


def test_a_lambda_and_an_instance_of_main_travel_together(codec: Codec, store: DictStore, enter: Enter) -> None:
    main = enter(POINT)
    item = [lambda point: point.x, main.Point(1, 2)]
    for _ in range(2):
        payload, tag = codec.encode(item)
        assert tag == MAIN
        function, point = codec.decode(payload, tag)
        assert type(point) is main.Point
        assert function(point) == 1
    assert len(store.definitions) == 1


def test_what_a_lambda_uses_of_main_stays_what_it_is_there(codec: Codec, enter: Enter) -> None:
    main = enter(POINT + "make = lambda: (Point, norm)")
    assert round_trip(codec, main.make)() == (main.Point, main.norm)


def test_a_class_of_main_that_its_name_does_not_lead_to_goes_by_value(
    codec: Codec, store: DictStore, enter: Enter
) -> None:
    main = enter(POINT + "def local():\n    class Local:\n        pass\n    return Local\nShadowed = Point\nPoint = 3")
    for kind in (main.local(), main.Shadowed):
        payload, tag = codec.encode(kind)
        assert tag == PICKLE
        assert codec.decode(payload, tag).__name__ == kind.__name__
    assert not store.definitions


def test_an_old_instance_goes_by_value_after_its_class_was_redefined(
    codec: Codec, store: DictStore, enter: Enter
) -> None:
    main = enter(POINT)
    old = main.Point(1, 2)
    codec.encode(old)
    exec(POINT, main.__dict__)
    for _ in range(2):
        payload, tag = codec.encode(old)
        assert tag == PICKLE
        assert type(codec.decode(payload, tag)) is type(old)
        assert type(round_trip(codec, main.Point(1, 2))) is main.Point
    assert len(store.definitions) == 2


@pytest.mark.parametrize("file", [None, "/nowhere/program.py"])
def test_a_redefined_class_gets_a_definition_of_its_own(
    codec: Codec, store: DictStore, enter: Enter, file: str | None
) -> None:
    main = enter(POINT, file)
    codec.encode([main.Point(1, 2), main.norm])
    assert len(store.definitions) == 2
    exec(POINT.split("def norm", maxsplit=1)[0], main.__dict__)
    item = [main.Point(1, 2), main.norm]  # names of two editions
    for _ in range(2):
        assert round_trip(codec, item) == item
        assert round_trip(codec, item[::-1]) == item[::-1]
    assert len(store.definitions) == 3


def test_only_the_own_part_of_a_payload_decides_whose_it_is(codec: Codec, enter: Enter, tmp_path: Path) -> None:
    """Two programs, and two runs of one."""
    one, other = str(tmp_path / "one.py"), str(tmp_path / "other.py")
    main = enter(POINT, one)
    payload = codec.encode(main.Point(1, 2))
    again = enter(POINT, one)
    assert type(codec.decode(*payload)) is again.Point
    elsewhere = enter(POINT, other)
    assert type(codec.decode(*payload)) not in {again.Point, elsewhere.Point}


def test_the_name_decides_within_a_program_even_if_its_file_has_changed(
    codec: Codec, enter: Enter, tmp_path: Path
) -> None:
    file = tmp_path / "program.py"
    file.write_text("old")
    payload = codec.encode(enter(POINT, str(file)).Point(1, 2))
    file.write_text("new")
    main = enter(POINT, str(file))
    assert type(codec.decode(*payload)) is main.Point


def test_another_edition_of_a_file_has_other_definitions(
    codec: Codec, store: DictStore, enter: Enter, tmp_path: Path
) -> None:
    file = tmp_path / "program.py"
    for text in ("old", "new", "new"):
        file.write_text(text)
        codec.encode(enter(POINT, str(file)).Point(1, 2))
    assert len(store.definitions) == 2


def test_a_link_to_a_program_is_that_program(codec: Codec, enter: Enter, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.touch()
    (tmp_path / "link.py").symlink_to(file)
    payload = codec.encode(enter(POINT, str(file)).Point(1, 2))
    main = enter(POINT, str(tmp_path / "link.py"))
    assert type(codec.decode(*payload)) is main.Point


def test_programs_that_are_called_stdin_are_not_the_same(
    store: DictStore, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = Codec(store).encode(enter(POINT, "<stdin>").Point(1, 2))
    monkeypatch.setattr(_codec, "_SESSION", b"another!")  # as in another process
    main = enter(POINT, "<stdin>")
    assert type(Codec(store).decode(*payload)) is not main.Point


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
    codec = Codec(DictStore(room=0), item_size=1000)
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
    """Of code with one flipped bit nobody knows what it does: it may crash the interpreter."""
    store = DictStore(room=sys.maxsize if where == "in the store" else 0)
    payload, tag = Codec(store).encode(enter(POINT, "/nowhere/program.py").norm)
    definitions = store.definitions or _codec.loads(payload[payload.index(b"\x80\x05", 2) :])
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


def test_only_what_is_missing_in_the_own_program_comes_from_a_definition(codec: Codec, enter: Enter) -> None:
    main = enter(POINT + "def late(): return Point")
    payload, tag = codec.encode([main.Point, main.late])
    again = enter(POINT)
    point, late = codec.decode(payload, tag)
    assert point is again.Point
    assert late() is again.Point


BARE = """
import functools, typing
@functools.lru_cache
def cached(x):
    return x
T = typing.TypeVar("T")
UserId = typing.NewType("UserId", int)
class Missing:
    def __reduce__(self):
        return "MISSING"
MISSING = Missing()
class Outer:
    MISSING = None
class Inner(Missing):
    def __reduce__(self):
        return "Outer.MISSING"
Outer.MISSING = Inner()
class Point:
    pass
import sys
__main__ = sys.modules["__main__"]
"""


@pytest.mark.parametrize("file", [None, "/nowhere/program.py"])
@pytest.mark.parametrize("wrap", ["{}", "[{}]", "[{}, Point()]", "[{}, lambda: 1]"])
@pytest.mark.parametrize("name", ["cached", "T", "UserId", "MISSING", "Outer.MISSING", "__main__"])
def test_what_has_no_definition_is_never_what_has_its_name_in_another_program(
    codec: Codec, enter: Enter, name: str, wrap: str, file: str | None
) -> None:
    main = enter(BARE, file)
    found = eval(name, main.__dict__)
    payload, tag = codec.encode(eval(wrap.format(name), main.__dict__))
    own = codec.decode(payload, tag)
    assert found is own or found is own[0]
    enter(BARE, "/nowhere/other.py")
    with pytest.raises(DeserializationError, match=f"{name!r} is a name in the __main__ of another program") as caught:
        codec.decode(payload, tag)
    assert isinstance(caught.value.__cause__, NameError)


def test_an_item_of_a_spawned_child_is_read_where_multiprocessing_is_not_imported(
    codec: Codec, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = enter(POINT + BARE.replace("class Point", "class Other"), "/nowhere/program.py")
    main.Point.__module__ = main.cached.__module__ = "__mp_main__"
    sent = [codec.encode(main.Point(1, 2)), codec.encode(main.cached), codec.encode([main.Point(1, 2), main.cached])]
    assert all(b"__mp_main__" in payload for payload, _ in sent)
    monkeypatch.delitem(sys.modules, "__mp_main__")
    point, cached, both = (codec.decode(*encoded) for encoded in sent)
    assert point == main.Point(1, 2)
    assert cached is main.cached
    assert both == [point, cached]
    monkeypatch.setitem(sys.modules, "__mp_main__", types.ModuleType("__mp_main__"))  # of another __main__, before
    assert codec.decode(*sent[0]) == point


def test_names_that_a_spawned_child_uses_mean_the_same(codec: Codec, enter: Enter) -> None:
    main = enter(POINT)
    main.Point.__module__ = "__mp_main__"
    payload, tag = codec.encode(main.Point(1, 2))
    assert tag == MAIN
    assert b"__mp_main__" in payload
    assert type(codec.decode(payload, tag)) is main.Point


# ---- threads and re-entrance -----------------------------------------------------------------------------------------


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


# ---- real processes --------------------------------------------------------------------------------------------------

# What every program of these tests imports: a store, and letters that carry items from one process to the next.
WIRE = """
import pickle
from shared_multiprocess_queue._codec.codec import Codec

class DictStore:
    def __init__(self, definitions=()):
        self.definitions = dict(definitions)
    def add(self, key, definition):
        self.definitions.setdefault(key, definition)
        return True
    def find(self, key):
        return self.definitions.get(key)

def pack(items):
    store = DictStore()
    codec = Codec(store)
    encoded = {name: codec.encode(item) for name, item in items.items()}
    return pickle.dumps((encoded, store.definitions))

def unpack(letter):
    encoded, definitions = pickle.loads(letter)
    codec = Codec(DictStore(definitions))
    items = {}
    for name, payload in encoded.items():
        try:
            items[name] = codec.decode(*payload)
        except Exception as error:
            items[name] = error
    return items

def write(path, items):
    with open(path, "wb") as file:
        file.write(pack(items))

def read(path):
    with open(path, "rb") as file:
        return unpack(file.read())

def examine(items, checks, names):
    'For each item, whether the check holds; an error is no less than an answer.'
    results = {}
    for name, check in checks.items():
        try:
            results[name] = bool(eval(check, {**names, "item": items[name]}))
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}; the item is {items[name]!r}"
    return results
"""

# A program with one of each kind of thing.
ZOO = """
import abc, enum, functools, multiprocessing, sys, typing
import cloudpickle
from collections import namedtuple
from dataclasses import dataclass, field
from wire import *

@dataclass
class Point:
    x: int
    y: int
    def norm(self):
        return scale(self.x) + self.y

@dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    tags: tuple = ()
    def first(self):
        return self.tags[0]

class Color(enum.Enum):
    RED = 1
    GREEN = 2
    def other(self):
        return Color.GREEN if self is Color.RED else Color.RED

class Mode(enum.IntFlag):
    READ = 1
    WRITE = 2

class Pair(namedtuple("Pair", "left right")):
    __slots__ = ()
    def swap(self):
        return Pair(self.right, self.left)

Triple = namedtuple("Triple", "a b c")

class AppError(Exception):
    pass

class NotFoundError(AppError):
    def __init__(self, what, where="nowhere"):
        super().__init__(what, where)
        self.what = what

class Outer:
    class Inner:
        def __init__(self, value):
            self.value = value
        def double(self):
            return 2 * self.value
    @staticmethod
    def make(value):
        return Outer.Inner(value)
    @classmethod
    def name(cls):
        return cls.__name__

T = typing.TypeVar("T")

class Box(typing.Generic[T]):
    def __init__(self, content: T):
        self.content = content

class Base:
    def who(self):
        return "base"

class Derived(Base):
    def who(self):
        return "derived of " + super().who()

class Ping:
    def peer(self):
        return Pong()

class Pong:
    def peer(self):
        return Ping()

class Registry:
    def make(self):
        return Plugin()

class Plugin(Registry):
    pass

class Meta(type):
    def __new__(metaclass, name, bases, namespace):
        return super().__new__(metaclass, name, bases, dict(namespace))
    @property
    def label(cls):
        return f"<{cls.__name__}>"

class Labelled(metaclass=Meta):
    pass

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

class Square(Shape):
    def area(self):
        return 4

def scale(x):
    return FACTOR * x

FACTOR = 10

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return ["logged", function(*args)]
    return wrapper

@logged
def decorated(x):
    return scale(x)

def local_class():
    class Local(Base):
        pass
    return Local

def build():
    return {
        "dataclass": Point(3, 4),
        "slots": Frozen(1, ("a",)),
        "enum": Color.RED,
        "flag": Mode.READ | Mode.WRITE,
        "namedtuple": Pair(1, 2),
        "bare namedtuple": Triple(1, 2, 3),
        "exception": NotFoundError("x"),
        "nested": Outer.Inner(5),
        "static method": Outer.make,
        "class method": Outer.name,
        "bound method": Outer.Inner(5).double,
        "generic": Box[int](7),
        "generic alias": Box[int],
        "derived": Derived(),
        "base": Base(),
        "mutual classes": Ping(),
        "base that uses derived": Plugin(),
        "metaclass": Labelled(),
        "abstract": Square(),
        "class": Derived,
        "function": scale,
        "mutual functions": even,
        "decorated": decorated,
        "partial": functools.partial(scale, 2),
        "list": [Point(1, 2), Color.GREEN, Base()],
        "lambda": lambda: (Point(1, 2), FACTOR),
        "local": local_class()(),
        "both": (Point(1, 2), lambda point: scale(point.y)),
        "kinds": (Point, Color, Base, scale),
    }
"""

# What holds of the items in every process.
VALUES = {
    "dataclass": "item.norm() == 34 and item == type(item)(3, 4) and repr(item) == 'Point(x=3, y=4)'",
    "slots": "item.first() == 'a' and hash(item)",
    "enum": "item.other() is type(item).GREEN and type(item)(1) is item and type(item)['RED'] is item",
    "flag": "item == 3 and item.name == 'READ|WRITE'",
    "namedtuple": "item.swap() == (2, 1) and item.left == 1 and type(item.swap()) is type(item)",
    "bare namedtuple": "item._asdict() == {'a': 1, 'b': 2, 'c': 3}",
    "exception": "isinstance(item, Exception) and item.what == 'x' and type(item).__bases__[0].__name__ == 'AppError'",
    "nested": "item.double() == 10 and type(item).__qualname__ == 'Outer.Inner'",
    "static method": "item(4).double() == 8 and type(item(4)) is type(items['nested'])",
    "class method": "item() == 'Outer' and item.__self__.Inner is type(items['nested'])",
    "bound method": "item() == 10",
    "generic": "item.content == 7 and item.__orig_class__ == items['generic alias']",
    "generic alias": "item(1).content == 1",
    "derived": "item.who() == 'derived of base' and type(item).__bases__ == (type(items['base']),)",
    "base": "item.who() == 'base'",
    "mutual classes": "type(item.peer().peer()) is type(item)",
    "base that uses derived": "[type(item.make())] == type(item).__bases__[0].__subclasses__() == [type(item)]",
    "metaclass": "type(item).label == '<Labelled>' and type(type(item)).__name__ == 'Meta'",
    "abstract": "item.area() == 4 and type(item).__bases__[0].__abstractmethods__ == {'area'}",
    "class": "item is type(items['derived'])",
    "function": "item(2) == 20",
    "mutual functions": "item(10) and not item(7)",
    "decorated": "item(2) == ['logged', 20] and item.__name__ == 'decorated'",
    "partial": "item() == 20",
    "list": "type(item[0]) is type(items['dataclass']) and item[1] is type(items['enum']).GREEN",
    "lambda": "type(item()[0]) is type(items['dataclass']) and item()[1] == 10",
    "local": "item.who() == 'base' and isinstance(item, type(items['base']))",
    "both": "item[1](item[0]) == 20",
    "kinds": "item[:3] == tuple(type(items[n]) for n in ('dataclass', 'enum', 'base')) and item[3](1) == 10",
}

# What holds, too, in a process of the program that the items are from.
OWN = {
    "dataclass": "type(item) is Point",
    "slots": "type(item) is Frozen",
    "enum": "item is Color.RED",
    "flag": "item == Mode.READ | Mode.WRITE and type(item) is Mode",
    "namedtuple": "type(item) is Pair",
    "bare namedtuple": "type(item) is Triple",
    "exception": "type(item) is NotFoundError and isinstance(item, AppError)",
    "nested": "type(item) is Outer.Inner",
    "static method": "item is Outer.make",
    "class method": "item == Outer.name",
    "bound method": "type(item.__self__) is Outer.Inner",
    "generic": "type(item) is Box and item.__orig_class__ == Box[int]",
    "generic alias": "item == Box[int]",
    "derived": "type(item) is Derived",
    "base": "type(item) is Base",
    "mutual classes": "type(item) is Ping",
    "base that uses derived": "type(item) is Plugin",
    "metaclass": "type(item) is Labelled and type(type(item)) is Meta",
    "abstract": "isinstance(item, Shape) and type(item) is Square",
    "class": "item is Derived",
    "function": "item is scale",
    "mutual functions": "item is even",
    "decorated": "item is decorated",
    "partial": "item.func is scale",
    "list": "type(item[0]) is Point and item[1] is Color.GREEN and type(item[2]) is Base",
    "lambda": "type(item()[0]) is Point",
    "local": "isinstance(item, Base)",
    "both": "type(item[0]) is Point and item[1].__globals__['scale'] is scale",
    "kinds": "item == (Point, Color, Base, scale)",
}

ZOO_MAIN = """
def check(items):
    return [examine(items, VALUES, {"items": items}), examine(items, OWN, {**globals(), "items": items})]

def child(letter, connection):
    items = unpack(letter)
    letters = pack(items), pack(build())
    assert not cloudpickle.list_registry_pickle_by_value()
    connection.send_bytes(pickle.dumps((check(items), *letters)))

def ask_child(method):
    'Send the items to a child; what it says of them, and of what it sends: the items again, and its own.'
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=child, args=(pack(build()), there))
    process.start()
    there.close()
    results, again, own = pickle.loads(here.recv_bytes())
    process.join()
    return {"there": results, "and back": check(unpack(again)), "from there": check(unpack(own))}, own

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "write":
        write(arguments[0], build())
    elif command == "check":
        json_dump(check(read(arguments[0])))
    else:
        results, own = ask_child(command)
        with open(arguments[0], "wb") as file:
            file.write(own)
        json_dump(results)
"""

OTHER = """
import json, sys
from wire import *

class Point:
    'Not the one that is meant.'

def scale(x):
    'Nor this.'

if __name__ == "__main__":
    items = read(sys.argv[1])
    if len(sys.argv) > 2:
        write(sys.argv[2], items)
    print(json.dumps(examine(items, VALUES, {"items": items})))
"""


def run(script: Path | list[str], *arguments: object, folder: Path, stdin: str | None = None) -> Any:
    """Run a program, and return the JSON that it prints."""
    command = [str(script)] if isinstance(script, Path) else script
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", *command, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE_ROOT), str(folder)])},
        timeout=WATCHDOG,
        capture_output=True,
        text=True,
        check=False,
        input=stdin,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return json.loads(done.stdout) if done.stdout else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    checks = f"VALUES = {VALUES!r}\nOWN = {OWN!r}\ndef json_dump(x):\n    import json\n    print(json.dumps(x))\n"
    (folder / "wire.py").write_text(WIRE + checks)
    (folder / "zoo.py").write_text(ZOO + ZOO_MAIN)
    (folder / "other.py").write_text(OTHER)
    return folder


@functools.cache
def zoo_results(folder: Path, how: str) -> dict[str, dict[str, Any]]:
    """Send the zoo in one way; return what its readers say of it, by reader."""
    letter = folder / f"{how}.letter"
    if how in {"fork", "spawn", "forkserver"}:
        results = run(folder / "zoo.py", how, letter, folder=folder)
        flat = {}
        for where, (value, own) in results.items():
            flat |= {f"{where}, value": value, f"{where}, own": own}
        flat["another program reads the child"] = run(folder / "other.py", letter, folder=folder)
        return flat
    run(folder / "zoo.py", "write", letter, folder=folder)
    if how == "another run":
        value, own = run(folder / "zoo.py", "check", letter, folder=folder)
        return {"value": value, "own": own}
    back = folder / f"{how}.back"
    results = {"there": run(folder / "other.py", letter, back, folder=folder)}
    results["passed on"] = run(folder / "other.py", back, folder=folder)
    results["back, value"], results["back, own"] = run(folder / "zoo.py", "check", back, folder=folder)
    return results


def assert_all(how: str, kind: str, folder: Path) -> None:
    results = zoo_results(folder, how)
    assert {reader: answers[kind] for reader, answers in results.items()} == dict.fromkeys(results, True)


kinds = pytest.mark.parametrize("kind", VALUES)


@kinds
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_get_their_own_classes_and_so_does_the_parent(folder: Path, method: str, kind: str) -> None:
    assert_all(method, kind, folder)


@kinds
def test_another_run_of_the_program_gets_its_own_classes(folder: Path, kind: str) -> None:
    assert_all("another run", kind, folder)


@kinds
def test_another_program_gets_it_by_value_and_it_returns_as_what_it_was(folder: Path, kind: str) -> None:
    assert_all("another program", kind, folder)


def test_two_producers_of_one_program_share_their_classes_in_another(folder: Path) -> None:
    """Each stores the definition of one of two related classes; the reader has them from both."""
    (folder / "one.py").write_text(ZOO + "write(sys.argv[2], {sys.argv[1]: build()[sys.argv[1]]})")
    for kind in ("base", "derived"):
        run(folder / "one.py", kind, folder / f"{kind}.one", folder=folder)
    merge = """
import sys, json
from wire import *
letters = [pickle.load(open(path, "rb")) for path in sys.argv[1:]]
base, derived = [
    Codec(DictStore(definitions)).decode(*encoded[name])
    for name, (encoded, definitions) in zip(("base", "derived"), letters)
]
print(json.dumps([isinstance(derived, type(base)), type(derived).__bases__ == (type(base),)]))
"""
    (folder / "merge.py").write_text(merge)
    assert run(folder / "merge.py", folder / "base.one", folder / "derived.one", folder=folder) == [True, True]


def test_a_program_run_as_a_module_is_the_same_in_spawned_children(folder: Path) -> None:
    package = folder / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "zoo.py").write_text(ZOO + ZOO_MAIN)
    results = run(["-m", "package.zoo"], "spawn", folder / "module.letter", folder=folder)
    assert results["there"] == [dict.fromkeys(VALUES, True), dict.fromkeys(OWN, True)]
    assert results["from there"] == [dict.fromkeys(VALUES, True), dict.fromkeys(OWN, True)]


GUARDED = """
import multiprocessing, pickle, sys
from wire import *

class Known:
    def make(self):
        return 1

def child(letter, connection):
    items = unpack(letter)
    connection.send_bytes(pickle.dumps((repr(items["late"]), isinstance(items["late"], Known), pack(items))))

if __name__ == "__main__":
    class Late(Known):
        def make(self):
            return [type(self).__name__, super().make()]
        def __repr__(self):
            return str(self.make())
    context = multiprocessing.get_context(sys.argv[1])
    here, there = context.Pipe()
    process = context.Process(target=child, args=(pack({"late": Late()}), there))
    process.start()
    text, is_known, back = pickle.loads(here.recv_bytes())
    process.join()
    json_dump([text, is_known, type(unpack(back)["late"]) is Late])
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_a_child_lacks_comes_by_value_the_rest_as_its_own_and_returns_as_what_it_was(
    folder: Path, method: str
) -> None:
    (folder / "guarded.py").write_text(GUARDED)
    assert run(folder / "guarded.py", method, folder=folder) == ["['Late', 1]", True, True]


SPAWNING = """
import functools, sys
from wire import *

@functools.lru_cache
def cached(x):
    return x

class Point:
    pass

def send(path):
    write(path, {"point": Point(), "cached": cached, "both": [Point(), cached]})

if __name__ == "__main__":
    if sys.argv[1] == "read":
        assert "multiprocessing" not in sys.modules
        items = read(sys.argv[2])
        json_dump([type(items["point"]) is Point, items["cached"] is cached, items["both"][1] is cached])
    else:
        import multiprocessing
        process = multiprocessing.get_context(sys.argv[1]).Process(target=send, args=(sys.argv[2],))
        process.start()
        process.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_a_child_has_sent_is_its_own_in_another_run_and_an_error_elsewhere(folder: Path, method: str) -> None:
    (folder / "spawning.py").write_text(SPAWNING)
    run(folder / "spawning.py", method, folder / "spawned.letter", folder=folder)
    assert run(folder / "spawning.py", "read", folder / "spawned.letter", folder=folder) == [True, True, True]
    (folder / "stranger.py").write_text(
        SPAWNING.split("if __name__", maxsplit=1)[0]
        + """
items = read(sys.argv[1])
json_dump([type(items["point"]).__name__, type(items["point"]) is Point, repr(items["cached"]), repr(items["both"])])
"""
    )
    name, is_own, *errors = run(folder / "stranger.py", folder / "spawned.letter", folder=folder)
    assert (name, is_own) == ("Point", False)
    for error in errors:
        assert "DeserializationError" in error
        assert "'cached' is a name in the __main__ of another program" in error


def test_children_that_run_another_main_get_it_by_value(folder: Path) -> None:
    """``python -m package`` runs ``package/__main__.py``, which multiprocessing does not import in children."""
    package = folder / "started"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("""
import multiprocessing, operator, pickle
from wire import *
from started.work import work

class Thing:
    size = 3

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(pack({"thing": Thing()}), there))
    process.start()
    size, back = pickle.loads(here.recv_bytes())
    process.join()
    json_dump([size, type(unpack(back)["thing"]) is Thing])
""")
    (package / "work.py").write_text("""
import pickle
from wire import *

def work(letter, connection):
    items = unpack(letter)
    connection.send_bytes(pickle.dumps((items["thing"].size, pack(items))))
""")
    assert run(["-m", "started"], folder=folder) == [3, True]


INTERACTIVE = """
import os
from wire import *

class Other:
    pass

class Point:
    version = 1

def in_child(work):
    'What a forked child returns.'
    reading, writing = os.pipe()
    if os.fork() == 0:
        with open(writing, "wb") as pipe:
            pipe.write(pickle.dumps(work()))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        return pickle.loads(pipe.read())
"""


def run_interactive(source: str, folder: Path, how: str) -> Any:
    if how == "-c":
        return run(["-c", INTERACTIVE + source], folder=folder)
    return run(["-"], folder=folder, stdin=INTERACTIVE + source)


@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_a_forked_child_of_an_interactive_program_is_the_same_program(folder: Path, how: str) -> None:
    source = """
letter = pack({"point": Point()})
there = in_child(lambda: type(unpack(letter)["point"]) is Point)
back = type(unpack(in_child(lambda: pack({"point": Point()})))["point"]) is Point
json_dump([there, back])
"""
    assert run_interactive(source, folder, how) == [True, True]


def test_two_interactive_programs_are_not_the_same(folder: Path) -> None:
    run(["-c", INTERACTIVE + f"write({str(folder / 'c.letter')!r}, {{'point': Point()}})"], folder=folder)
    source = f"point = read({str(folder / 'c.letter')!r})['point']\njson_dump([type(point) is Point, point.version])"
    assert run(["-c", INTERACTIVE + source], folder=folder) == [False, 1]


def test_a_child_that_has_the_old_class_gets_a_redefined_one_by_value(folder: Path) -> None:
    source = """
pack({"point": Point()})  # as a queue had it before
waiting, going = os.pipe()
asking, answering = os.pipe()
if os.fork() == 0:
    os.close(going)
    with open(waiting, "rb") as pipe:
        items = unpack(pipe.read())
    point, other, mixed = items["point"], items["other"], items["mixed"]
    answers = [point.version, type(point) is Point, type(other) is Other]
    answers += [type(mixed[0]) is Other, type(mixed[1]) is type(point), mixed[2] is mixed[1].__class__]
    with open(answering, "wb") as pipe:
        pipe.write(pickle.dumps((answers, pack(items), pack({"old": Point()}))))
    os._exit(0)
os.close(answering)
class Point:
    version = 2
with open(going, "wb") as pipe:
    pipe.write(pack({"point": Point(), "other": Other(), "mixed": (Other(), Point(), Point)}))
with open(asking, "rb") as pipe:
    answers, back, old = pickle.loads(pipe.read())
back, old = unpack(back), unpack(old)["old"]
json_dump([answers, type(back["point"]) is Point, type(back["other"]) is Other, type(old) is Point])
"""
    assert run_interactive(source, folder, "-c") == [[2, False, True, True, True, True], True, True, True]


def test_after_a_redefinition_items_are_as_small_as_before_and_the_name_decides(folder: Path) -> None:
    source = """
store = DictStore()
codec = Codec(store)
def work(): return 1
first, second = codec.encode(Point()), codec.encode(work)
class Point:
    version = 2
def work(): return 2
third, fourth = codec.encode(Point()), codec.encode(work)
sizes = [len(payload) for payload, tag in (first, second, third, fourth)]
points = [type(codec.decode(*encoded)) is Point for encoded in (first, third)]
functions = [codec.decode(*encoded) is work for encoded in (second, fourth)]
json_dump([sizes[:2] == sizes[2:], len(store.definitions), points, functions])
"""
    assert run_interactive(source, folder, "-c") == [True, 4, [True, True], [True, True]]


SLOW = """
import time
class Base:
    def __init_subclass__(cls):
        time.sleep(0.5)
class Late(Base):
    pass
def slow(kind=Late):
    pass
write(sys.argv[1], {"slow": slow})
"""


def test_a_failed_build_leaves_nothing_half_made(folder: Path) -> None:
    (folder / "needy.py").write_text("""
import sys
from wire import *
class Needy:
    size = 1
    def use(self):
        return helper()
def helper():
    return 42
write(sys.argv[1], {"needy": Needy()})
""")
    run(folder / "needy.py", folder / "needy.letter", folder=folder)
    (folder / "fails.py").write_text("""
import sys
from wire import *
encoded, definitions = pickle.load(open(sys.argv[1], "rb"))
answers = []
[helper] = [key for key, definition in definitions.items() if b"Needy" not in definition]
for store in (DictStore({key: text for key, text in definitions.items() if key != helper}), DictStore(definitions)):
    try:
        answers.append(Codec(store).decode(*encoded["needy"]).use())
    except Exception as error:
        answers.append("'helper'" in str(error))
json_dump(answers)
""")
    assert run(folder / "fails.py", folder / "needy.letter", folder=folder) == [True, 42]


def test_threads_that_need_one_definition_at_once_build_one_object(folder: Path) -> None:
    (folder / "slow.py").write_text("import sys\nfrom wire import *\n" + SLOW)
    run(folder / "slow.py", folder / "slow.letter", folder=folder)
    (folder / "threads.py").write_text("""
import sys, threading
from wire import *
found, complete = [], []
def look():
    function = read(sys.argv[1])["slow"]
    complete.append([kind.__name__ for kind in function.__defaults__ or ()] == ["Late"])
    found.append(function)
threads = [threading.Thread(target=look) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
json_dump([complete, len({id(function) for function in found})])
""")
    assert run(folder / "threads.py", folder / "slow.letter", folder=folder) == [[True] * 4, 1]


def test_a_child_forked_while_a_thread_builds_is_not_blocked_by_it(folder: Path) -> None:
    (folder / "slow.py").write_text("import sys\nfrom wire import *\n" + SLOW)
    run(folder / "slow.py", folder / "slow.letter", folder=folder)
    (folder / "forks.py").write_text("""
import os, signal, sys, threading, time
from wire import *
thread = threading.Thread(target=read, args=(sys.argv[1],))
thread.start()
time.sleep(0.2)
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(42 if callable(read(sys.argv[1])["slow"]) else 1)
json_dump(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
""")
    assert run(folder / "forks.py", folder / "slow.letter", folder=folder) == 42
