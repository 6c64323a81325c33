"""Each kind of thing of ``__main__`` arrives in children, in other runs and in other programs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from tests.support.program_zoo import VALUES, ZOO, run


@functools.cache
def zoo_results(folder: Path, how: str) -> dict[str, dict[str, Any]]:
    """Send the zoo in one way; return what its readers say of it, by reader."""
    letter = folder / f"{how}.letter"
    if how in {"fork", "spawn", "forkserver"}:
        results = run(folder / "zoo.py", how, letter, folder=folder)
        flat: dict[str, Any] = {}
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
