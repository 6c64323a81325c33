"""Children that lack a part of ``__main__``, that have another, or that have sent of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.program_zoo import OWN, VALUES, ZOO, ZOO_MAIN, run


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
def test_what_a_child_lacks_comes_by_value_and_the_rest_as_its_own(folder: Path, method: str) -> None:
    """All of it returns to the parent as what it was there."""
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
def test_what_a_child_has_sent_is_its_own_in_another_run(folder: Path, method: str) -> None:
    """In any other program, what has no definition is an error."""
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
