"""What becomes of a request that a server does not answer, or refuses."""

from __future__ import annotations

import random
from typing import Any, Final, Literal

try:
    from redis import exceptions
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "a queue on a server needs redis-py: pip install 'shared-multiprocess-queue[redis]'", name=error.name
    ) from None
from redis.backoff import NoBackoff
from redis.retry import Retry

from .._platform import clock
from ..errors import CorruptQueueError, QueueRefusedError, QueueUnavailableError
from .lua import MEMORY
from .where import Place

__all__ = ["CONNECTIONS", "SILENCE", "BusyError", "Trouble", "is_of_login", "is_of_memory", "is_passing", "options"]

SILENCE: Final = 5.0  # seconds without an answer after which a connection is lost; more than any wait takes
CONNECTIONS: Final = 64  # of one handle for requests, and as many for waiting
_PAUSES: Final = (0.01, 1.0)  # seconds between attempts: the first, and the longest
_AGAIN: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.MasterDownError,
    exceptions.AskError,  # and MOVED, which is one: another node of a cluster has the queue, or will have it
    OSError,
)
_AGAIN_TEXTS: Final = ("BUSY ", "NOREPLICAS", "LOADING", "UNBLOCKED")
_OUTCOMES: Final = {"not done": "has done nothing", "unknown": "may have had its effect, as an answer is missing"}
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
_FINAL: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError)
_DAMAGED: Final = ("WRONGTYPE", "user_script", "ERR user_script")


class BusyError(exceptions.ConnectionError):
    """All connections of a handle are in use."""

    def __init__(self) -> None:
        super().__init__(f"all {CONNECTIONS} connections of this handle are in use")


def options(silence: float) -> dict[str, Any]:
    """Return the options of connections. They come behind those of a URL, which has only those of a place."""
    return {
        "socket_timeout": silence,
        "socket_connect_timeout": silence,
        "health_check_interval": 0,
        "protocol": 2,
        "max_connections": 1 << 31,  # they are counted here
        "retry_on_timeout": False,
        "retry_on_error": [],
    }


def no_retry() -> Any:
    """Return what keeps the client from repeating anything: only a call knows what may be sent again."""
    return Retry(NoBackoff(), 0)


class Trouble:
    """What to do about the errors of one request: ask again, or give up.

    Args:
        place: of the queue, for messages.
        patience: seconds without an answer after which the server is given up.
        until: monotonic time in ns after which that is so, too.
    """

    def __init__(self, place: Place, patience: float, until: float) -> None:
        self._place = place
        self._began = clock.now()
        # The server forgets what it has done; a request that it has forgotten would be done again.
        self._until = min(self._began + min(patience, MEMORY / 2) * 1e9, until)
        self._pause, self._longest = _PAUSES
        self._outcome: Literal["not done", "unknown"] = "not done"

    def pause(self, error: Exception) -> float:
        """Return how long to wait before the request is sent again.

        Raises:
            QueueUnavailableError: the server was away for too long.
            QueueRefusedError: it refuses the request.
            CorruptQueueError: what lies there is no queue.
        """
        shown = self._place.shown
        text = str(error).rstrip(".")
        if str(error).startswith(_DAMAGED):
            raise CorruptQueueError(
                f"what lies on the server for the queue {shown} is no queue that this package writes ({error}); "
                f"remove it by RemoteQueue.remove(url), and create it again"
            ) from error
        if not is_passing(error) or (isinstance(error, exceptions.AskError) and not self._place.nodes):
            raise QueueRefusedError(
                f"the server of {shown} refuses the request: {text}{_advice(error)}", self._outcome
            ) from error
        if not _was_not_sent(error):
            self._outcome = "unknown"
        now = clock.now()
        if now >= self._until:
            waited = f"{(now - self._began) / 1e9:.1f} s"
            raise QueueUnavailableError(
                f"the server of {shown} does not answer: {text}; after {waited} in which it was asked again the call "
                f"{_OUTCOMES[self._outcome]}; see whether it runs and can be reached"
                f"{self._doubt()}",
                self._outcome,
            ) from error
        pause = min(self._pause * random.uniform(0.5, 1), (self._until - now) / 1e9)
        self._pause = min(2 * self._pause, self._longest)
        return pause

    def _doubt(self) -> str:
        """Return what else to see: a server without TLS is silent when it is greeted by a client with TLS."""
        has_tls = self._place.shown.startswith(("rediss", "valkeys"))
        return ", and whether it speaks TLS at that port; redis:// is without" if has_tls else ""


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    text = str(error)
    if isinstance(error, _FINAL) or "CERTIFICATE_VERIFY_FAILED" in text or _has_no_tls(text):
        return False
    return isinstance(error, _AGAIN) or text.startswith(_AGAIN_TEXTS)


def is_of_login(error: BaseException | None) -> bool:
    """Whether the server does not accept the user or the password, so that it runs nothing."""
    return isinstance(error, exceptions.AuthenticationError)


def is_of_memory(error: BaseException | None) -> bool:
    """Whether the server has no memory for the request."""
    return isinstance(error, exceptions.OutOfMemoryError)


def _has_no_tls(text: str) -> bool:
    return any(mark in text.upper().replace(" ", "_") for mark in _NO_TLS)


def _was_not_sent(error: Exception) -> bool:
    """Whether no connection was made; or the server has answered that it has not run the script."""
    return (
        isinstance(error, (BusyError, exceptions.BusyLoadingError))
        or not isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError))
        or "connecting to" in str(error)
        or str(error) == "max number of clients reached"
    )


def _advice(error: Exception) -> str:
    if is_of_memory(error):
        return "; its memory is full: take items out, or give it more by maxmemory"
    if isinstance(error, (*_FINAL, exceptions.NoPermissionError)):
        return "; give a user and a password that may use the keys shmq:* and scripts"
    if _has_no_tls(str(error)):
        return "; it speaks no TLS at that port: write redis:// in the place of rediss://, or give its port for TLS"
    if isinstance(error, exceptions.AskError):
        return "; it is a node of a cluster, and another node has the queue: write redis+cluster://host:port#tasks"
    return ""
