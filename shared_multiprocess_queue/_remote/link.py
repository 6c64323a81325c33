"""The connection of a handle to its server: runs calls by the blocking client, and asks again after lost connections.

The client itself repeats nothing: only a call knows what may be sent again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

try:
    import redis
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "a queue on a server needs redis-py: pip install 'shared-multiprocess-queue[redis]'", name=error.name
    ) from None
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from .._platform import clock
from ..errors import QueueRefusedError, QueueUnavailableError
from .calls import Ask, Call, Step, Wake
from .where import Place

__all__ = ["SOCKET_TIMEOUT", "Link", "Trouble", "is_passing", "options"]

SOCKET_TIMEOUT: Final = 5.0  # seconds without an answer after which a connection is lost; more than any wait takes
_PAUSES: Final = (0.01, 1.0)  # seconds between attempts: the first, and the longest
_AGAIN: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.MasterDownError,
    OSError,
)
_AGAIN_TEXTS: Final = ("BUSY ", "NOREPLICAS", "LOADING", "UNBLOCKED")
_FINAL: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError)
T = TypeVar("T")


def options() -> dict[str, Any]:
    """Return the options of a client."""
    return {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT, "health_check_interval": 0}


class Trouble:
    """What to do about the errors of one request: ask again, or give up.

    Args:
        place: of the queue, for messages.
        patience: seconds without an answer after which the server is given up.
        until: monotonic time in ns after which that is so, too.
    """

    def __init__(self, place: Place, patience: float, until: float) -> None:
        self._place = place
        self._until = min(clock.now() + patience * 1e9, until)
        self._pause, self._longest = _PAUSES
        self._outcome: Literal["not done", "unknown"] = "not done"

    def pause(self, error: Exception) -> float:
        """Return how long to wait before the request is sent again.

        Raises:
            QueueUnavailableError: the server was away for too long.
            QueueRefusedError: it refuses the request.
        """
        if not is_passing(error):
            raise QueueRefusedError(
                f"the server of {self._place.shown} refuses the request: {error}{_advice(error)}"
            ) from error
        if not _was_not_sent(error):
            self._outcome = "unknown"
        if clock.now() >= self._until:
            raise QueueUnavailableError(
                f"the server of {self._place.shown} does not answer: {error}; see whether it runs and can be reached",
                self._outcome,
            ) from error
        pause = self._pause * random.uniform(0.5, 1)
        self._pause = min(2 * self._pause, self._longest)
        return pause


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    text = str(error)
    if isinstance(error, _FINAL) or "CERTIFICATE_VERIFY_FAILED" in text:
        return False
    return isinstance(error, _AGAIN) or text.startswith(_AGAIN_TEXTS)


def _was_not_sent(error: Exception) -> bool:
    """Whether no connection was made; or the server has answered that it has not run the script."""
    return not isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError)) or "connecting to" in str(error)


def _advice(error: Exception) -> str:
    if isinstance(error, exceptions.OutOfMemoryError):
        return "; its memory is full: take items out, or give it more by maxmemory"
    if isinstance(error, (*_FINAL, exceptions.NoPermissionError)):
        return "; give a user and a password that may use the keys shmq:* and scripts"
    return ""


class Link:
    """Runs calls by the blocking client.

    Args:
        place: of the server.
        patience: seconds without an answer after which it is given up.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self._place = place
        self._patience = patience
        # The pool gives each thread that asks at the same time a connection of its own.
        self._is_closed = False
        self.client: Any = redis.Redis.from_url(place.server, retry=Retry(NoBackoff(), 0), **options())

    def run(self, call: Call[T]) -> T:
        """Run a call to its end."""
        answer: Any = None
        try:
            while True:
                step = call.send(answer)
                answer = self._step(step)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            call.close()

    def _step(self, step: Step) -> Any:
        if isinstance(step, Ask):
            return self._ask(step)
        self._wait(step)
        return None

    def command(self, *words: Any) -> Any:
        """Run a command of the server that may be repeated."""
        return self._insist(lambda: self._execute(*words), clock.FOREVER)

    def _ask(self, ask: Ask) -> Any:
        rest = (len(ask.keys), *ask.keys, *ask.arguments)

        def send() -> Any:
            try:
                return self._execute("EVALSHA", ask.script.digest, *rest)
            except exceptions.NoScriptError:
                return self._execute("EVAL", ask.script.text, *rest)

        return self._insist(send, ask.until)

    def _execute(self, *words: Any) -> Any:
        try:
            return self.client.execute_command(*words)
        except ValueError as error:  # redis-py without hiredis reads from a file, which another thread has closed
            if not self._is_closed:
                raise
            raise exceptions.ConnectionError("another thread has closed the handle") from error

    def _insist(self, send: Callable[[], Any], until: float) -> Any:
        trouble: Trouble | None = None
        while True:
            try:
                return send()
            except (exceptions.RedisError, OSError) as error:
                trouble = trouble or Trouble(self._place, self._patience, until)
                clock.sleep(trouble.pause(error))

    def _wait(self, wake: Wake) -> None:
        if wake.key is None:
            clock.sleep(wake.seconds)
            return
        try:
            self._execute("BLPOP", wake.key, wake.seconds)
        except (exceptions.RedisError, OSError) as error:  # the next request says whether the server is back
            if not is_passing(error):
                Trouble(self._place, 0, 0).pause(error)

    def close(self) -> None:
        """Close the connections."""
        self._is_closed = True
        self.client.close()
