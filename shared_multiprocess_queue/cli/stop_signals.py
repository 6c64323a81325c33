"""Signals that ask a command to stop, noted when they come and raised where the command is ready for it."""

from __future__ import annotations

import queue
import signal
from types import FrameType, TracebackType
from typing import Any, Self


class InterruptedBySignal(BaseException):
    """A signal asked the command to stop. No ``Exception``, like KeyboardInterrupt, because it is no error."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received)
        self.signal = received


class StopSignals:
    """Notes SIGINT, SIGTERM and SIGHUP while the ``with`` block lasts, and raises only where ``check`` is called.

    KeyboardInterrupt can come at any instruction, also between the creation of a segment and the code that would remove
    it. Signals that were ignored before stay ignored (``nohup``). After the first signal all are ignored until the
    process ends, so that a second Ctrl-C does not disturb the clean-up.
    """

    def __init__(self) -> None:
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        self._signals: list[signal.Signals] = [getattr(signal, name) for name in names if hasattr(signal, name)]
        self._before: dict[signal.Signals, Any] = {}
        self._received: signal.Signals | None = None
        self._notes: queue.SimpleQueue[None] = queue.SimpleQueue()  # which a handler may use at any instruction

    @property
    def received(self) -> signal.Signals | None:
        """The signal that was received."""
        return self._received

    def wait(self) -> None:
        """Wait, in another thread, until a signal comes."""
        self._notes.get()

    def check(self) -> None:
        """Do nothing, or raise InterruptedBySignal if a signal was received."""
        if self._received is not None:
            raise InterruptedBySignal(self._received)

    def __enter__(self) -> Self:
        for number in self._signals:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = signal.Signals(number)
            self._notes.put(None)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._received else handler)
