"""As ``link.py``, by the client of asyncio: for tasks of one event loop."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from .._platform import clock
from .calls import Ask, Call, Step, Wake
from .link import Trouble, is_passing, options
from .where import Place

__all__ = ["TaskLink"]

T = TypeVar("T")


class TaskLink:
    """Runs calls in the tasks of the running event loop.

    Args:
        place: of the server.
        patience: seconds without an answer after which it is given up.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self._place = place
        self._patience = patience
        self._client: Any = redis.asyncio.Redis.from_url(place.server, retry=Retry(NoBackoff(), 0), **options())

    async def run(self, call: Call[T]) -> T:
        """Run a call to its end."""
        task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        answer: Any = None
        try:
            while True:
                step = call.send(answer)
                if task.cancelling() > cancelled:  # the client may have swallowed it, or made it another error
                    raise asyncio.CancelledError
                answer = await self._step(step, task, cancelled)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            call.close()

    async def _step(self, step: Step, task: asyncio.Task[Any], cancelled: int) -> Any:
        trouble: Trouble | None = None
        while True:
            try:
                return await (self._ask(step) if isinstance(step, Ask) else self._wait(step))
            except (exceptions.RedisError, OSError) as error:
                if task.cancelling() > cancelled:
                    raise asyncio.CancelledError from error
                if not isinstance(step, Ask) and is_passing(error):
                    return None  # the next request says whether the server is back
                until = step.until if isinstance(step, Ask) else clock.FOREVER
                trouble = trouble or Trouble(self._place, self._patience, until)
                await asyncio.sleep(trouble.pause(error))

    async def _ask(self, ask: Ask) -> Any:
        rest = (len(ask.keys), *ask.keys, *ask.arguments)
        try:
            return await self._client.execute_command("EVALSHA", ask.script.digest, *rest)
        except exceptions.NoScriptError:
            return await self._client.execute_command("EVAL", ask.script.text, *rest)

    async def _wait(self, wake: Wake) -> None:
        if wake.key is None:
            await asyncio.sleep(wake.seconds)
        else:
            await self._client.execute_command("BLPOP", wake.key, wake.seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
