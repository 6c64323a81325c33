"""Memory that is lent for a while: whether anything still refers to it when the time is over.

A slice of a memoryview is not counted where the view is released, nor is an array on it. What is taken of a
``PickleBuffer`` is counted by the memoryview inside it: no other object of the standard library passes a buffer on so.
It pickles nothing here. ``numpy.ndarray(buffer=view)`` gives the buffer back and refers to that memoryview alone, which
its reference count tells. What refers to the view that was lent, such as a tensor of ``torch.frombuffer``, cannot be
told from the variable that has the view.
"""

from __future__ import annotations

import sys
from pickle import PickleBuffer
from typing import Final


class Loan:
    """Memory that is lent by its ``view``.

    Args:
        memory: that no other refers to.
    """

    __slots__ = ("_memory", "view")

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self.view = memoryview(PickleBuffer(memory))

    def references(self) -> int:
        """Return how many there are to the memory, with that of the call."""
        return sys.getrefcount(self._memory)

    def take_back(self) -> bool:
        """Release memory and view; return False if something else refers to the memory, and can use it."""
        try:
            self.view.release()
            if self.references() > _ALONE:
                return False
            self._memory.release()
        except BufferError:
            return False
        return True


def _alone() -> int:
    loan = Loan(memoryview(b""))
    loan.view.release()
    return loan.references()


_ALONE: Final = _alone()
