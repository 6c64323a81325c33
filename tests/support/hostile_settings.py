"""What the tests with bad input have in common."""

from __future__ import annotations

from queue import Empty, Full
from typing import get_args

from hypothesis import HealthCheck, settings

from shared_multiprocess_queue import SharedMemoryQueueError
from shared_multiprocess_queue._engine import choice
from stress import damage

ENGINES = [engine for engine in get_args(damage.Engine) if engine != "native" or choice.has_native()]
ALLOWED = (SharedMemoryQueueError, Empty, Full)


few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)
