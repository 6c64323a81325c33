"""The descriptors of this process."""

from __future__ import annotations

import gc
import itertools
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


def descriptors() -> set[str]:
    """Return those that are open, once nothing has them that is garbage: the frames of an error that was caught."""
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


def open_descriptors() -> int:
    return len(descriptors())


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """Leave so many descriptors to this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = itertools.islice(
        (number for number in itertools.count() if not os.path.exists(f"/proc/self/fd/{number}")), 9
    )
    lowest = list(free)
    limit = lowest[count]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
