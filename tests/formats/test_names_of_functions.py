"""The names by which processes know the functions of a format, and arguments that make none."""

from __future__ import annotations

import array
import datetime
import decimal
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._codec.own_format import name_of
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.own_formats import from_json, to_json
from tests.support.waiting import LONG


class Coder:
    """A format with a state, as those of msgspec have it."""

    def dumps(self, item: object) -> bytes:
        return to_json(item)

    @classmethod
    def of_class(cls, item: object) -> bytes:
        return to_json(item)

    @staticmethod
    def of_none(item: object) -> bytes:
        return to_json(item)

    def __call__(self, item: object) -> bytes:
        return to_json(item)


HERE = __name__


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (to_json, "tests.support.own_formats:to_json"),
        (json.loads, "json:loads"),
        (Coder().dumps, f"{HERE}:Coder.dumps"),
        (Coder.of_class, f"{HERE}:Coder.of_class"),
        (Coder.of_none, f"{HERE}:Coder.of_none"),
        (bytes, "builtins:bytes"),
        (len, "builtins:len"),
        (json.JSONEncoder().encode, "json.encoder:JSONEncoder.encode"),
        (b"".join, "builtins:bytes.join"),
        (bytes.decode, "builtins:bytes.decode"),
        (int.from_bytes, "builtins:int.from_bytes"),
        (datetime.datetime.fromisoformat, "datetime:datetime.fromisoformat"),
        (datetime.date.isoformat, "datetime:date.isoformat"),
        (array.array.tobytes, "array:array.tobytes"),
        (decimal.Decimal.from_float, "decimal:Decimal.from_float"),
        (lambda item: item, ""),
        (functools.partial(to_json), ""),
        (Coder(), ""),
    ],
)
def test_a_function_is_known_by_its_module_and_its_name(function: Callable[..., Any], name: str) -> None:
    assert name_of(function) == name


MODULE_AS_PROGRAM = """
import multiprocessing
from shared_multiprocess_queue import SharedMemoryQueue

def dumps(item): return bytes([item])
def loads(data): return data[0]
def child(q): print(q.serializer, q.get(), flush=True)

if __name__ == "__main__":
    with SharedMemoryQueue(dumps=dumps, loads=loads) as q:
        q.put(7)
        print(q.serializer, flush=True)
        process = multiprocessing.get_context("spawn").Process(target=child, args=(q,))
        process.start()
        process.join()
"""


@pytest.mark.costly
@pytest.mark.parametrize(
    ("arguments", "name"), [(["-m", "package.program"], "package.program"), (["package/program.py"], "__main__")]
)
def test_a_module_that_is_the_program_keeps_its_name(tmp_path: Path, arguments: list[str], name: str) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "program.py").write_text(MODULE_AS_PROGRAM)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=LONG, check=False
    )
    both = f"{name}:dumps {name}:loads"
    assert (done.stdout, done.stderr) == (f"{both}\n{both} 7\n", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"serializer": "json"}, "serializer must be 'pickle' or 'plain', not 'json'"),
        ({"serializer": None}, "serializer must be"),
        ({"dumps": to_json}, "loads is missing"),
        ({"loads": from_json}, "dumps is missing"),
        ({"dumps": to_json, "loads": 5}, "loads must be a function, not 5"),
        ({"dumps": lambda item: item, "loads": from_json}, "dumps must have a name"),
        ({"dumps": to_json, "loads": functools.partial(from_json)}, "loads must have a name"),
        ({"dumps": to_json, "loads": from_json, "serializer": "plain"}, "exclude each other"),
    ],
)
def test_arguments_that_cannot_be_are_refused(run_id: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        SharedMemoryQueue("q", create=True, run_id=run_id, **arguments)
