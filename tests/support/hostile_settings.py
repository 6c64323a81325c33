"""What the tests with bad input have in common."""

from __future__ import annotations

from queue import Empty, Full

from hypothesis import HealthCheck, settings

from shared_multiprocess_queue import SharedMemoryQueueError, ShutDown
from shared_multiprocess_queue._engine import choice
from stress.harness.engines import ENGINE

ENGINES = [engine for engine in ENGINE if engine != "native" or choice.has_native()]
ALLOWED = (SharedMemoryQueueError, Empty, Full, ShutDown)


few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)
