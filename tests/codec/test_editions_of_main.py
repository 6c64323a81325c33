"""Interactive programs, and classes of ``__main__`` that are redefined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.program_zoo import run

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


@pytest.mark.costly
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


def test_after_a_redefinition_items_are_as_small_as_before(folder: Path) -> None:
    """The name decides which class they are of."""
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
