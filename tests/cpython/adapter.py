"""The tests that CPython has for its own queues, run on ours. They come with the interpreter, in its ``test``.

``START_METHOD=spawn python -m unittest tests.cpython.adapter`` runs them. A test that cannot pass is expected to fail.
"""

# mypy: disable-error-code="misc,attr-defined,import-not-found"
from __future__ import annotations

import multiprocessing.queues
import os
import queue
import re
import types
import unittest
from typing import Any

from test import _test_multiprocessing as processes
from test import test_queue as threads

from shared_multiprocess_queue import JoinableQueue, Queue
from tests.cpython.not_applicable import FAILING, SKIPPED

OURS: Any = types.SimpleNamespace(**{**vars(queue), "Queue": Queue, "_PySimpleQueue": Queue})
UNFINISHED = property(lambda q: q.qsize() + len(q.get_metrics()["leased"]))
JOINABLE: Any = types.SimpleNamespace(
    **{**vars(queue), "Queue": type("Queue", (JoinableQueue,), {"unfinished_tasks": UNFINISHED})}
)


class QueueTest(threads.QueueTest, unittest.TestCase):
    def setUp(self) -> None:
        self.queue = JOINABLE if re.search("join|task_done|all_methods", self._testMethodName) else OURS
        super().setUp()


class FailingQueueTest(threads.FailingQueueTest, unittest.TestCase):
    queue = OURS


class SimpleQueueTest(threads.PySimpleQueueTest):
    queue = OURS


class MultiprocessingQueueTest(processes._TestQueue, processes.ProcessesMixin, unittest.TestCase):
    Queue, JoinableQueue = Queue, JoinableQueue


TESTS = {test.__name__: test for test in (QueueTest, FailingQueueTest, SimpleQueueTest, MultiprocessingQueueTest)}
for mark, table in (unittest.expectedFailure, FAILING), (unittest.skip("it would hang"), SKIPPED):
    for label in table:
        name, _, method = label.partition(".")
        if hasattr(TESTS[name], method):  # an older Python has fewer tests
            setattr(TESTS[name], method, mark(getattr(TESTS[name], method)))


def setUpModule() -> None:
    """Put ours in the place of theirs."""
    multiprocessing.set_start_method(os.environ["START_METHOD"], force=True)
    for module in multiprocessing, multiprocessing.queues:
        module.Queue, module.JoinableQueue = Queue, JoinableQueue
