"""KeyboardInterrupt at the k-th point of a call at which Python serves signals, counted as in test_interrupts.py."""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import shared_multiprocess_queue

_PACKAGE = str(Path(shared_multiprocess_queue.__file__).parent)
_operations: dict[CodeType, dict[int, str]] = {}


class _Interrupter:
    """A trace function that raises once, at a point of the package's code."""

    def __init__(self, point: int) -> None:
        self.left = point
        self._calling: dict[int, bool] = {}  # whether a frame's last instruction was a call of a C function

    def __call__(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_back is not None:
            self._calling[id(frame.f_back)] = False
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        self._point()
        return self._trace

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "opcode":
            operation = _operation_at(frame)
            called = self._calling.pop(id(frame), False)
            self._calling[id(frame)] = operation.startswith("CALL")
            if called or operation == "JUMP_BACKWARD":
                self._point()
        elif event == "return":
            self._calling.pop(id(frame), None)
        return self._trace

    def _point(self) -> None:
        self.left -= 1
        if self.left == -1:
            raise KeyboardInterrupt


def _operation_at(frame: FrameType) -> str:
    code = frame.f_code
    if code not in _operations:
        _operations[code] = {i.offset: i.opname for i in dis.get_instructions(code)}
    return _operations[code].get(frame.f_lasti, "")


@contextmanager
def interrupted(point: int | None) -> Iterator[None]:
    """Interrupt what runs here at its point ``point``, if that is not None and it has so many."""
    if point is None:
        yield
        return
    sys.settrace(_Interrupter(point))
    try:
        yield
    finally:
        sys.settrace(None)
