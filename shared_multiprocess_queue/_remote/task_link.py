"""As ``link.py``, by the client of asyncio: for tasks of one event loop."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from .._platform import clock
from .calls import Ask, Call, Wake
from .link import Trouble, options
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
        self.loop = asyncio.get_running_loop()
        self._client: Any = redis.asyncio.Redis.from_url(place.server, retry=Retry(NoBackoff(), 0), **options())

    async def run(self, call: Call[T]) -> T:
        """Run a call to its end."""
        answer: Any = None
        try:
            while True:
                step = call.send(answer)
                answer = await (self._ask(step) if isinstance(step, Ask) else self._wait(step))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            call.close()

    async def _ask(self, ask: Ask) -> Any:
        rest = (len(ask.keys), *ask.keys, *ask.arguments)
        trouble: Trouble | None = None
        while True:
            try:
                try:
                    return await self._client.execute_command("EVALSHA", ask.script.digest, *rest)
                except exceptions.NoScriptError:
                    return await self._client.execute_command("EVAL", ask.script.text, *rest)
            except (exceptions.RedisError, OSError) as error:
                trouble = trouble or Trouble(self._place, self._patience, ask.until)
                await asyncio.sleep(trouble.pause(error))

    async def _wait(self, wake: Wake) -> None:
        if wake.key is None:
            await asyncio.sleep(wake.seconds)
            return
        try:
            await self._client.execute_command("BLPOP", wake.key, wake.seconds)
        except exceptions.ResponseError as error:
            Trouble(self._place, self._patience, clock.FOREVER).pause(error)
        except (exceptions.RedisError, OSError):  # the next request says whether the server is back
            pass

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
