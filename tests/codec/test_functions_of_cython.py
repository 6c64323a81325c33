"""A function of Cython in an item is a name to pickle, and costs its arrays no copy; frames of pandas have one."""

from __future__ import annotations

import sys

import pytest

from tests.support.arrays import LARGE, is_kept, numbers
from tests.support.queues import MakeQueue


def function_of_cython(module: object, name: str) -> object:
    """Return an object whose type has a reducer, as Cython's has."""
    return type(name, (), {"__module__": module, "__reduce__": lambda self: "A_FUNCTION_OF_CYTHON"})()


OF_OBJECTS = property(lambda self: __name__)  # what stands there from Cython 3.1 on
A_FUNCTION_OF_CYTHON = function_of_cython(OF_OBJECTS, "_cython_3_9_9.cython_function_or_method")


def test_a_function_of_cython_costs_no_copy(make_queue: MakeQueue, each_engine: str) -> None:
    """Pickle takes it for a name; frames of pandas are rebuilt by one."""
    item = [A_FUNCTION_OF_CYTHON, numbers()]
    assert not is_kept(item)
    queue = make_queue(item_size=LARGE)
    queue.put(item)
    assert queue.get()[0] is A_FUNCTION_OF_CYTHON


@pytest.mark.parametrize(
    ("module", "name", "costs"),
    [
        ("_cython_3_0_11", "cython_function_or_method", False),
        ("_cython_3_0_11", "Mine", True),
        ("_cython_mine", "cython_function_or_method", True),
        (OF_OBJECTS, "_cython_3_9_9.fused_cython_function", False),
        (OF_OBJECTS, "_cython_3_9_9.cython_function_or_method_of_mine", True),
    ],
)
def test_no_other_class_passes_for_a_function_of_cython(
    module: object, name: str, costs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = function_of_cython(module, name)
    monkeypatch.setattr(sys.modules[__name__], "A_FUNCTION_OF_CYTHON", function)
    if type(module) is str:
        monkeypatch.setitem(sys.modules, module, sys.modules[__name__])  # where pickle looks for the name
    assert is_kept([function, numbers()]) == costs


def test_a_frame_of_pandas_costs_no_copy() -> None:
    pandas = pytest.importorskip("pandas")
    assert not is_kept(pandas.DataFrame({"a": numbers(), "b": numbers()}))
