"""Memory that is lent for a while: whether anything still refers to it when the time is over.

A slice of a memoryview is not counted where the view is released, nor is an array on it. What is taken of a
``PickleBuffer`` is counted by the memoryview inside it: no other object of the standard library passes a buffer on so.
It pickles nothing here.
"""

from __future__ import annotations

from pickle import PickleBuffer


def lend(memory: memoryview) -> memoryview:
    """Return a view of a memoryview that ``take_back`` can tell from all that users make of it."""
    return memoryview(PickleBuffer(memory))


def take_back(memory: memoryview, view: memoryview) -> bool:
    """Release what was lent, and its view; return False if something else refers to the memory, and can use it."""
    try:
        view.release()
        memory.release()
    except BufferError:
        return False
    return True
