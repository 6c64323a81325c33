"""Opening and closing the lock, interrupted or without the package."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from typing import Any

import atomics
import pytest
from atomics.ctx import AtomicIntViewContext

from shared_multiprocess_queue._platform import mutex
from shared_multiprocess_queue._ring import layout
from tests.support.lock_workers import set_int32
from tests.support.places import SHM
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG

pytestmark = [
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


PACKAGE_LOCK = mutex.lock_class()
"""The class of the package, if that is installed in this environment."""


# ---- interrupts -----------------------------------------------------------------------------------------------------


def test_a_lock_that_is_interrupted_while_it_is_opened_goes_in_silence(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``__del__`` raises is a warning, and here every warning is an error."""
    q = make_queue()

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place, function in ((atomics, "atomicview"), (AtomicIntViewContext, "__enter__")):
        with monkeypatch.context() as patch:
            patch.setattr(place, function, interrupt)
            with pytest.raises(KeyboardInterrupt):
                mutex.open_lock("q-queue", q.run_id, create=False)
        gc.collect()


@pytest.mark.skipif(PACKAGE_LOCK is mutex.OwnLock, reason="the package is not installed")
def test_a_package_lock_interrupted_at_its_opening_goes_silently(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of the package that is interrupted while it is opened writes nothing when Python frees it."""
    q = make_queue()
    real = AtomicIntViewContext.__enter__

    def enter_and_interrupt(context: Any) -> None:
        real(context)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mutex, "lock_class", lambda: PACKAGE_LOCK)
        patch.setattr(AtomicIntViewContext, "__enter__", enter_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            mutex.open_lock("q-queue", q.run_id, create=False)
    gc.collect()


# ---- without the package --------------------------------------------------------------------------------------------


def test_our_class_is_used_where_the_package_is_not_installed() -> None:
    code = """
        import sys
        sys.modules["shared_memory_lock"] = None
        from shared_multiprocess_queue._platform import mutex as _lock
        assert _lock.lock_class() is _lock.OwnLock
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=LONG)


def test_a_lock_that_is_closed_lets_go_of_its_segment(make_queue: MakeQueue) -> None:
    q = make_queue()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        lock = mutex.open_lock("q-queue", q.run_id, create=False)
        assert lock.try_acquire()
        lock.release()
        lock.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_single_puts_and_gets_never_touch_the_lock(make_queue: MakeQueue, mode: str) -> None:
    q = make_queue(mode=mode)
    set_int32(q, 1)
    q._membership.memory.words().store(layout.BATCH_OWNER_AT, layout.name_of(5, 5))

    def touched(*_: object) -> bool:
        raise AssertionError("a put or a get took the lock")

    lock = q._membership.batch_lock
    for method in ("acquire", "release"):
        setattr(lock, method, touched)
    for number in range(10):
        q.put(number)
        q.put_nowait(number)
        assert q.get_batch(2) == [number, number]
    set_int32(q, 0)
    q._membership.memory.words().store(layout.BATCH_OWNER_AT, 0)
