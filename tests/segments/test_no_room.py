"""A queue for which there is no shared memory."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared_multiprocess_queue import QueueExistsError, SharedMemoryQueueError
from shared_multiprocess_queue._platform import free_memory
from tests.support.places import SHM
from tests.support.segments import create, remove, segments_of
from tests.support.waiting import LONG

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def test_a_queue_without_room_fills_nothing_and_says_what_to_do(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared memory has less room than the queue takes."""
    real = os.statvfs

    def nearly_full(where: Any) -> Any:
        found = real(where)
        free = 1_000_000 // found.f_frsize
        return SimpleNamespace(f_frsize=found.f_frsize, f_bavail=free, f_bfree=free, f_blocks=found.f_blocks)

    def no_call(*_: object) -> None:
        raise AssertionError("it took memory although there was too little")

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", nearly_full)
        patch.setattr(os, "posix_fallocate", no_call)
        with pytest.raises(OSError, match=r"not enough shared memory .* choose a smaller capacity") as caught:
            create(run_id, capacity=1000, item_size=1000)
    assert caught.value.errno == errno.ENOSPC
    assert not isinstance(caught.value, SharedMemoryQueueError) or isinstance(caught.value, OSError)
    remove(create(run_id, capacity=1000, item_size=1000))


def test_a_queue_that_is_larger_than_the_memory_left_takes_none(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Shared memory may be said to be larger than what there is."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900000 kB\nMemAvailable: 60000 kB\nSwapFree: 5000 kB\n")
    monkeypatch.setattr(free_memory, "_MEMINFO", meminfo)
    with pytest.raises(OSError, match="66,560,000 bytes of memory left; choose a smaller capacity") as caught:
        create(run_id, capacity=70_000, item_size=1000)
    assert caught.value.errno == errno.ENOSPC
    remove(create(run_id, capacity=60_000, item_size=1000))


def test_a_queue_that_is_there_is_found_though_memory_is_short_by_now(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    q = create(run_id, capacity=70_000, item_size=1000)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 60000 kB\n")
    monkeypatch.setattr(free_memory, "_MEMINFO", meminfo)
    with pytest.raises(QueueExistsError):
        create(run_id, capacity=70_000, item_size=1000)
    create(run_id, capacity=70_000, item_size=1000, exist_ok=True).close()
    remove(q)


@pytest.mark.parametrize("call", [0, 1])
def test_memory_that_runs_out_meanwhile_is_the_same_error(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """At the reservation of the queue's segment, or at that of the lock's."""
    calls = itertools.count()
    real = os.posix_fallocate

    def run_out(*arguments: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", run_out)
        with pytest.raises(OSError, match=r"not enough shared memory .* choose a smaller capacity") as caught:
            create(run_id)
    assert caught.value.errno == errno.ENOSPC
    assert segments_of(run_id) == set()
    remove(create(run_id))


SMALL_SHARED_MEMORY = """
import errno, os, sys
from shared_multiprocess_queue import SharedMemoryQueue

try:
    SharedMemoryQueue("q", create=True, capacity=8000, item_size=1000)
except ValueError as error:
    pass  # it can never fit
with open("/dev/shm/half", "wb") as half:
    half.write(bytes(2 << 20))
try:
    SharedMemoryQueue("q", create=True, capacity=3000, item_size=1000)
except OSError as error:
    assert error.errno == errno.ENOSPC, error
assert os.listdir("/dev/shm") == ["half"], os.listdir("/dev/shm")
q = SharedMemoryQueue("q", create=True, capacity=500, item_size=1000)
with open("/dev/shm/others", "wb", buffering=0) as others:
    try:
        while True:
            others.write(bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC, error

class Mine:  # its definition would need memory that is not there
    pass

for lap in range(3):
    for number in range(500):
        q.put(b"x" * 1000)
    assert q.full()
    assert len(q.get_batch(500)) == 500
q.put(Mine())
assert type(q.get()) is Mine
q.close()
q.unlink()
print("done")
"""


def test_a_shared_memory_that_is_really_full_is_an_error_and_no_sigbus() -> None:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("needs a mount namespace of its own")
    prefix = ["unshare", "--mount", "sh", "-ec", 'mount -t tmpfs -o size=4m tmpfs /dev/shm; exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=LONG).returncode != 0:
        pytest.skip("no mount namespace here")
    result = subprocess.run(
        [*prefix, sys.executable, "-c", SMALL_SHARED_MEMORY],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")
