"""KeyboardInterrupt at the k-th point of a call at which Python serves signals, or where it enters a function.

CPython looks for signals when a function starts, when a loop jumps back, and when a call of a C function returns.
"""

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


def _operation_at(frame: FrameType) -> str:
    code = frame.f_code
    if code not in _operations:
        _operations[code] = {i.offset: i.opname for i in dis.get_instructions(code)}
    return _operations[code].get(frame.f_lasti, "")


def _is_in_a_finalizer(frame: FrameType | None) -> bool:
    """Whether Python would ignore an exception here."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


class Interrupter:
    """Raises KeyboardInterrupt at the k-th point of the package's code at which a signal could be served.

    Args:
        point: k, or the name of a function, whose first point is meant.
    """

    def __init__(self, point: int | str) -> None:
        self.left = point if isinstance(point, int) else -1
        self._function = point if isinstance(point, str) else ""
        self.where = ""
        # Whether a signal is served before a frame's next instruction. By id, because references would keep the frames
        # and their objects alive.
        self._calling: dict[int, bool] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        caller = frame.f_back
        if caller is not None:
            self._calling[id(caller)] = False  # it called a function of Python: no signal is served when that returns
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        self._point(frame)  # a function starts
        return self.trace

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note that a function of C returns, which may have called functions of Python in between."""
        if event == "c_return" and id(frame) in self._calling:
            self._calling[id(frame)] = True

    def _point(self, frame: FrameType) -> None:
        if _is_in_a_finalizer(frame):
            return
        if self.left == 0 or frame.f_code.co_name == self._function:
            self._function = ""
            self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
            raise KeyboardInterrupt
        self.left -= 1

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event != "opcode":
            # After a call that raised, no signal is served: the interpreter goes on to the handler. An exception there,
            # before the handler has saved what it handles, leaves the thread with a handled exception for ever.
            if event in ("return", "exception"):
                self._calling.pop(id(frame), None)
            return self.trace
        operation = _operation_at(frame)
        called = self._calling.pop(id(frame), False)
        self._calling[id(frame)] = operation.startswith("CALL")
        if called or operation == "JUMP_BACKWARD":
            self._point(frame)
        return self.trace


def watch(interrupter: Interrupter | None) -> None:
    """Let an interrupter see what this thread runs from here on; None: let none."""
    sys.setprofile(None if interrupter is None else interrupter.profile)
    sys.settrace(interrupter)


@contextmanager
def interrupted(point: int | str | None) -> Iterator[None]:
    """Interrupt what runs here at its point ``point``, if that is not None and is there."""
    if point is None:
        yield
        return
    watch(Interrupter(point))
    try:
        yield
    finally:
        watch(None)
