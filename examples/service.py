"""A web service of aiohttp that leaves work to processes, and awaits their replies without a thread."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from multiprocessing import Process

from aiohttp import ClientSession, web

from shared_multiprocess_queue import SharedMemoryQueue, ShutDown

Requests = SharedMemoryQueue[tuple[int, str]]
Replies = SharedMemoryQueue[tuple[int, str]]


def work(requests: Requests, replies: Replies) -> None:
    for number, text in requests:
        replies.put((number, text.upper()))


class Workers:
    """Hands each reply to the task that waits for it."""

    def __init__(self, requests: Requests, replies: Replies) -> None:
        self.requests = requests
        self.replies = replies
        self.waiting: dict[int, asyncio.Future[str]] = {}
        self.numbers = itertools.count()

    async def ask(self, text: str) -> str:
        number = next(self.numbers)
        self.waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(10):  # a worker may be killed
                await self.requests.put_async((number, text))
                return await self.waiting[number]
        finally:
            del self.waiting[number]

    async def take_replies(self) -> None:
        try:
            async for number, reply in self.replies:
                future = self.waiting.get(number)  # None if the task has given up
                if future is not None and not future.done():
                    future.set_result(reply)
        finally:  # also after an error: then each request fails at once, and the cleanup raises the error
            self.requests.shutdown()
            for future in self.waiting.values():
                if not future.done():
                    future.set_exception(ShutDown())


def application(workers: Workers) -> web.Application:
    async def upper(request: web.Request) -> web.Response:
        try:
            return web.Response(text=await workers.ask(await request.text()))
        except TimeoutError:
            raise web.HTTPGatewayTimeout from None

    async def replies(app: web.Application) -> AsyncIterator[None]:
        taking = asyncio.create_task(workers.take_replies())
        yield
        workers.replies.shutdown()  # ends the loop of the task
        await taking

    app = web.Application()
    app.router.add_post("/upper", upper)
    app.cleanup_ctx.append(replies)
    return app


async def try_it(app: web.Application) -> None:
    """Serve on a free port, and ask; a program that only serves calls ``web.run_app(app)``."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with ClientSession() as session:
        answers = [session.post(f"http://{host}:{port}/upper", data=text) for text in ("one", "two", "three")]
        print([await answer.text() for answer in await asyncio.gather(*answers)])  # ['ONE', 'TWO', 'THREE']
    await runner.cleanup()


if __name__ == "__main__":
    requests: Requests = SharedMemoryQueue(capacity=100)  # the service waits if more are not taken yet
    replies: Replies = SharedMemoryQueue(capacity=100)
    processes = [Process(target=work, args=(requests, replies)) for _ in range(2)]
    for process in processes:
        process.start()
    asyncio.run(try_it(application(Workers(requests, replies))))
    requests.shutdown()
    for process in processes:
        process.join()
