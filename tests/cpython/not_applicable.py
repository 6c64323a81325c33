"""The tests of CPython that do not pass on a bounded queue between processes, each with the reason.

Those of FAILING run and have to fail, so that the table is no longer than it must be. Those of SKIPPED would hang.
"""

from __future__ import annotations

from typing import Final

_HOOKS: Final = "overrides _put and _get, by which queue.Queue reaches its deque; here the items lie in shared memory"
_SIZE: Final = "assigns to maxsize; the capacity of shared memory is fixed at creation, and the assignment is refused"
_FEEDER: Final = "puts an item that cannot be pickled, and wants the error on stderr; here put raises it"
_CLOSED: Final = "wants empty() of a closed queue to work, but only if the feeder thread had not been started"

FAILING: Final = {
    "FailingQueueTest.test_failing_queue": _HOOKS,
    "MultiprocessingQueueTest.test_closed_queue_empty_exceptions": _CLOSED,
    "MultiprocessingQueueTest.test_queue_feeder_donot_stop_onexc": _FEEDER,
    "MultiprocessingQueueTest.test_queue_feeder_on_queue_feeder_error": _FEEDER,
    "QueueTest.test_shrinking_queue": _SIZE,
}

SKIPPED: Final[dict[str, str]] = {}
