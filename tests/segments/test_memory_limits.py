"""A queue beside the limits of its process."""

from __future__ import annotations

import pytest

from tests.support.children import python
from tests.support.places import SHM
from tests.support.segments import segments_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


LIMITED = """
import errno, resource, sys
from shared_multiprocess_queue import SharedMemoryQueue
run_id = sys.argv[1]
open_before = SharedMemoryQueue("small", create=True, capacity=2, item_size=64, run_id=run_id)
big = SharedMemoryQueue("big", create=True, capacity=50_000, item_size=4000, run_id=run_id)
big.close()
with open("/proc/self/statm") as file:
    used = int(file.read().split()[COLUMN]) * resource.getpagesize()
resource.setrlimit(resource.LIMIT, (used + (100 << 20),) * 2)
for create in (False, True):
    try:
        q = SharedMemoryQueue("other" if create else "big", create, run_id=run_id, capacity=50_000, item_size=4000)
    except OSError as error:
        assert error.errno == errno.ENOMEM, error
        print(error)
    else:
        q.put(1)
        assert q.get() == 1
        q.close()
        if create:
            q.unlink()
big.unlink()  # for which it needs no memory
open_before.put(1)
open_before.close()
open_before.unlink()
"""


def limited(run_id: str, limit: str, column: int) -> list[str]:
    """Open and create a queue of 200 MB in a process that may have 100 more; return the errors."""
    code = LIMITED.replace("LIMIT", limit).replace("COLUMN", str(column))
    return python(code, run_id).stdout.splitlines()


@pytest.mark.slow
def test_a_queue_does_not_count_as_data_of_its_process(run_id: str, each_engine: str) -> None:
    assert limited(run_id, "RLIMIT_DATA", 5) == []
    assert segments_of(run_id) == set()


def test_a_queue_that_cannot_be_mapped_says_what_limits_it(run_id: str, each_engine: str) -> None:
    """The error says how large the queue is, too."""
    errors = limited(run_id, "RLIMIT_AS", 0)
    assert len(errors) == 2
    for name, text in zip(("big", "other"), errors, strict=True):
        assert f"'{run_id}-{name}-queue' cannot be mapped: it takes 20" in text
        assert "(RLIMIT_AS, ulimit -v); raise the limit" in text
    assert segments_of(run_id) == set()
