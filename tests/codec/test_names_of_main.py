"""Things of ``__main__`` go by name, and arrive as what they are to the reader; within one process."""

from __future__ import annotations

import pickle
import sys
import types
import weakref
from pathlib import Path

import pytest

from shared_multiprocess_queue._codec import codec as _codec
from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue._codec.tags import MAIN, PICKLE
from shared_multiprocess_queue.errors import DeserializationError
from tests.support.main_programs import POINT, DictStore, Enter, round_trip


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
    enter("", "/nowhere/two.py").Point = first.Point  # type: ignore[attr-defined]
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
def test_what_has_no_definition_is_no_namesake_of_another_program(
    codec: Codec, enter: Enter, name: str, wrap: str, file: str | None
) -> None:
    """In another program it is an error, never the object that has its name there."""
    main = enter(BARE, file)
    found = eval(name, main.__dict__)
    payload, tag = codec.encode(eval(wrap.format(name), main.__dict__))
    own = codec.decode(payload, tag)
    assert found is own or found is own[0]
    enter(BARE, "/nowhere/other.py")
    with pytest.raises(DeserializationError, match=f"{name!r} is a name in the __main__ of another program") as caught:
        codec.decode(payload, tag)
    assert isinstance(caught.value.__cause__, NameError)


def test_an_item_of_a_spawned_child_is_read_without_multiprocessing(
    codec: Codec, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has not imported multiprocessing, which gives ``__main__`` its second name."""
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
