"""Functions and classes that no name leads to arrive by value."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import cloudpickle
import pytest

from shared_multiprocess_queue import DeserializationError
from shared_multiprocess_queue._codec import by_value
from shared_multiprocess_queue._codec.codec import Codec
from tests.support.main_programs import round_trip


def test_a_lambda_arrives_by_value(codec: Codec) -> None:
    double = round_trip(codec, lambda x: 2 * x)
    assert double(21) == 42


def test_code_of_another_version_of_python_is_refused(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would crash the interpreter."""

    class Local:
        def answer(self) -> int:
            return 42

    for item in (lambda x: 2 * x, Local()):
        monkeypatch.setattr(by_value, "_magic", lambda: b"other")
        data, tag = codec.encode(item)
        monkeypatch.undo()
        with pytest.raises(DeserializationError, match="by another version of Python, which has other byte code"):
            codec.decode(data, tag)


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
