"""Runs scenarios on one peer, each with processes of its own: ``python -m stress.bench.host PEER``.

Asked by lines of JSON on stdin, answers by lines of JSON on stdout. It is a process for itself because two peers may
have the same import name, and because one that hangs or crashes then takes nothing along.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final

from . import scenarios
from .channel import Channel, End, Peer
from .copying import copier
from .peers import find
from .placing import place
from .scenarios import Scenario

_WARM_UP: Final = 2_000  # items of each producer, which are compared; of large ones, fewer
_WARM_BYTES: Final = 64 << 20
_MOST: Final = 3_000_000  # items of a measurement
_SHARES: Final = (0.1, 0.3, 1)  # of the time, for as many runs: each tells the next how many items it takes
_BLOCK: Final = 100  # items that one process puts before it gets them
_END: Final = bytes(64)  # ends an echo

_context = multiprocessing.get_context("fork")
_now = time.monotonic_ns
_numbers = itertools.count()


class DamagedError(Exception):
    """A peer has delivered something else than what was put."""


# ---- processes ------------------------------------------------------------------------------------------------------


class _Worker:
    """A process on one core, or on any, that answers once for each thing that it is told."""

    def __init__(self, core: int | None, loop: Callable[[Connection], None]) -> None:
        self.pipe, child = _context.Pipe()
        self._process = _context.Process(target=self._run, args=(core, loop, child), daemon=True)
        self._process.start()
        child.close()

    @staticmethod
    def _run(core: int | None, loop: Callable[[Connection], None], pipe: Connection) -> None:
        if core is not None:
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[core % len(cores)]})
        try:
            loop(pipe)
        except EOFError:
            pass
        except Exception as error:
            pipe.send(error)
            raise SystemExit(1) from None

    def answer(self) -> Any:
        """Wait for what the process answers, and return it; raise what it has raised."""
        try:
            answer = self.pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"a process ended with exit code {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        """Let the process end."""
        with suppress(OSError):  # it may have ended
            self.pipe.send("end")
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def _channel(peer: Peer, scenario: Scenario) -> Iterator[Channel]:
    name = f"bench-{os.getpid()}-{next(_numbers)}"
    channel = peer.make(name, scenario.channel_size())
    try:
        yield channel
    finally:
        channel.remove()


@contextmanager
def _workers(*loops: tuple[int | None, Callable[[Connection], None]]) -> Iterator[list[_Worker]]:
    """Start processes, and wait until they are ready; end them afterwards."""
    with ExitStack() as stack:
        workers = []
        for core, loop in loops:
            worker = _Worker(core, loop)
            stack.callback(worker.end)
            workers.append(worker)
            worker.answer()
        yield workers


# ---- items a second -------------------------------------------------------------------------------------------------


def _put_all(end: End, scenario: Scenario, count: int) -> None:
    items = itertools.islice(itertools.cycle(scenario.make()), count)
    if scenario.batch > 1:
        put_batch = end.put_batch
        while batch := list(itertools.islice(items, scenario.batch)):
            put_batch(batch)
    else:
        put = end.put
        for item in items:
            put(item)
    end.flush()


def _get_all(end: End, scenario: Scenario, count: int) -> None:
    if scenario.batch > 1:
        while count > 0:
            count -= len(end.get_batch(min(scenario.batch, count)))
    else:
        get = end.get
        for _ in itertools.repeat(None, count):
            get()


def _get_compared(end: End, scenario: Scenario, count: int) -> None:
    known = {repr(item) for item in scenario.make()}
    for _ in range(count):
        item = repr(end.get())
        if item not in known:
            raise DamagedError(f"got {item:.80}, which nobody has put")


def _mover(open_end: Callable[[], End], scenario: Scenario, *moves: Callable[[End, Scenario, int], None]) -> Any:
    """Return a loop that makes one move after the other, each when it is told for how many items."""

    def loop(pipe: Connection) -> None:
        end = open_end()
        pipe.send("ready")
        for move in moves:
            count = pipe.recv()
            start = _now()
            move(end, scenario, count)
            pipe.send((start, _now()))
        try:
            pipe.recv()  # no process closes its end before all are done
        finally:
            end.close()

    return loop


def _grown(move: Callable[[int], float], scenario: Scenario, seconds: float) -> dict[str, float]:
    """Return how many items a second move, from as many of them as take so many seconds.

    Args:
        move: moves as many of each producer, and returns how many items a second that is.
        scenario: says what moves.
        seconds: of the last of several runs, of which each tells the next how many items it takes.
    """
    step = scenario.batch * scenario.consumers
    warm = max(step, min(_WARM_UP, _WARM_BYTES // scenario.size()) // step * step)
    rate = move(warm)
    for share in _SHARES:
        count = int(rate * seconds * share / scenario.producers)
        rate = move(max(step, min(count, _MOST) // step * step))
    return {"rate": rate}


def _rate(peer: Peer, scenario: Scenario, seconds: float) -> dict[str, float]:
    with _channel(peer, scenario) as channel:

        def producer(number: int) -> tuple[int, Any]:
            return number, _mover(lambda: channel.sender(number), scenario, *[_put_all] * (1 + len(_SHARES)))

        def consumer(number: int) -> tuple[int, Any]:
            return number + 1, _mover(
                lambda: channel.receiver(number), scenario, _get_compared, *[_get_all] * len(_SHARES)
            )

        consumers = [consumer(number) for number in range(scenario.consumers)]
        producers = [producer(number) for number in range(scenario.producers)]
        with _workers(*consumers, *producers) as workers:

            def move(count: int) -> float:
                """Move as many items of each producer; return how many a second."""
                shares = [count * scenario.producers // scenario.consumers] * scenario.consumers
                for worker, share in zip(workers, [*shares, *[count] * scenario.producers], strict=True):
                    worker.pipe.send(share)
                times = [worker.answer() for worker in workers]
                took = max(end for _, end in times) - min(start for start, _ in times)
                return float(count * scenario.producers / took * 1e9)

            return _grown(move, scenario, seconds)


def _threads(peer: Peer, scenario: Scenario, seconds: float) -> dict[str, float]:
    with _channel(peer, scenario) as channel:

        def loop(pipe: Connection) -> None:
            end = channel.sender(0)  # one handle for all threads, as in a program
            pipe.send("ready")

            def move(count: int) -> float:
                getter = threading.Thread(target=_get_all, args=(end, scenario, count), daemon=True)
                start = _now()
                getter.start()
                _put_all(end, scenario, count)
                getter.join()
                return float(count / (_now() - start) * 1e9)

            pipe.send(_grown(move, scenario, seconds))
            end.close()

        with _workers((None, loop)) as (worker,):
            answer: dict[str, float] = worker.answer()
            return answer


# ---- how long one item takes ----------------------------------------------------------------------------------------


def _get_of(end: End, scenario: Scenario) -> Callable[[], Any]:
    """Return what takes an item: the get that waits, or one that asks again and again."""
    if not scenario.polls:
        return end.get
    get_nowait = end.queue.get_nowait

    def get() -> Any:
        while True:
            try:
                return get_nowait()
            except queue.Empty:
                pass

    return get


def _echo(there: Channel, back: Channel, scenario: Scenario) -> Callable[[Connection], None]:
    def loop(pipe: Connection) -> None:
        receiver, sender = there.receiver(0), back.sender(0)
        pipe.send("ready")
        get, put = _get_of(receiver, scenario), sender.put
        item = None
        while item != _END:
            item = get()
            put(item)
        pipe.send("done")
        receiver.close()
        sender.close()

    return loop


def _ping(there: Channel, back: Channel, scenario: Scenario, seconds: float) -> Callable[[Connection], None]:
    def loop(pipe: Connection) -> None:
        sender, receiver = there.sender(0), back.receiver(0)
        pipe.send("ready")
        put, get, item, pause = sender.put, _get_of(receiver, scenario), scenario.make()[0], scenario.pause
        pipe.recv()
        times = []
        until = _now() + int(seconds * 1e9)
        while _now() < until:
            if pause:
                time.sleep(pause)
            start = _now()
            put(item)
            get()
            times.append(_now() - start)
        put(_END)
        get()
        pipe.send(times[len(times) // 10 :])
        sender.close()
        receiver.close()

    return loop


def _trip(peer: Peer, scenario: Scenario, seconds: float) -> dict[str, float]:
    with (
        _channel(peer, scenario) as there,
        _channel(peer, scenario) as back,
        _workers((1, _echo(there, back, scenario)), (0, _ping(there, back, scenario, seconds))) as (echo, ping),
    ):
        ping.pipe.send("go")
        times = ping.answer()
        echo.answer()
    return _percentiles(times)


def _call(peer: Peer, scenario: Scenario, seconds: float) -> dict[str, float]:
    is_put = scenario.call == "put_nowait"
    item = scenario.make()[0]

    with _channel(peer, scenario) as channel:

        def partner(pipe: Connection) -> None:
            end = channel.receiver(0)
            pipe.send("ready")
            put_nowait, get_nowait = end.queue.put_nowait, end.queue.get_nowait
            while not pipe.poll():
                for _ in range(_BLOCK):
                    try:
                        if not is_put:
                            put_nowait(item)
                        get_nowait()
                    except queue.Empty:
                        pass
            end.close()

        def caller(pipe: Connection) -> None:
            end = channel.sender(0)
            call, arguments = getattr(end.queue, scenario.call), [item] if is_put else []
            pipe.send("ready")
            pipe.recv()
            times = []
            until = _now() + int(seconds * 1e9)
            while _now() < until:
                start = _now()
                try:  # noqa: SIM105 (suppress would be measured, too)
                    call(*arguments)
                except queue.Full:
                    pass
                times.append(_now() - start)
            pipe.send(_percentiles(times[len(times) // 10 :]))
            end.close()

        with _workers((1, partner), (0, caller)) as (_, calling):
            calling.pipe.send("go")
            answer: dict[str, float] = calling.answer()
            return answer


def _wake(peer: Peer, scenario: Scenario, seconds: float) -> dict[str, float]:
    count = max(10, int(seconds / scenario.pause / 2))

    with _channel(peer, scenario) as channel:

        def getter(pipe: Connection) -> None:
            end = channel.receiver(0)
            pipe.send("ready")
            times = []
            for _ in range(count):
                end.get()
                times.append(_now())
            pipe.send(times)
            end.close()

        def putter(pipe: Connection) -> None:
            end = channel.sender(0)
            pipe.send("ready")
            times = []
            for _ in range(count):
                time.sleep(scenario.pause)
                times.append(_now())
                end.put(scenario.make()[0])
            pipe.send(times)
            end.close()

        with _workers((1, getter), (0, putter)) as (awaiting, putting):
            began, ended = putting.answer(), awaiting.answer()
    return _percentiles([end - start for start, end in zip(began, ended, strict=True)][count // 10 :])


def _percentiles(times: list[int]) -> dict[str, float]:
    """Return what is seldom exceeded, in µs."""
    times.sort()
    return {
        name: times[min(int(len(times) * share), len(times) - 1)] / 1e3
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
    }


# ---- processor time, and one process alone --------------------------------------------------------------------------


def _cpu(peer: Peer, scenario: Scenario, seconds: float) -> dict[str, float]:
    with _channel(peer, scenario) as channel:

        def getter(pipe: Connection) -> None:
            end = channel.receiver(0)
            pipe.send("ready")
            end.get()  # the first one has to make things
            before = time.process_time()
            end.get()
            pipe.send((time.process_time() - before) * 1e3)
            end.close()

        def putter(pipe: Connection) -> None:
            end = channel.sender(0)
            pipe.send("ready")
            end.put(scenario.make()[0])
            time.sleep(2)
            end.put(scenario.make()[0])
            pipe.recv()
            end.close()

        with _workers((1, getter), (0, putter)) as (awaiting, _):
            return {"cpu": awaiting.answer()}


def _alone(peer: Peer, scenario: Scenario, seconds: float) -> dict[str, float]:
    block = min(_BLOCK, scenario.capacity)

    with _channel(peer, scenario) as channel:

        def loop(pipe: Connection) -> None:
            pipe.send("ready")
            receiver, sender = channel.receiver(0), channel.sender(0)
            further = [channel.sender(number) for number in range(1, scenario.handles + 1)]
            for end in further:
                end.put(scenario.make()[0])
                receiver.get()
            puts: list[float] = []
            gets: list[float] = []
            copies: list[float] = []
            copy_all = copier(scenario.size(), len(scenario.make()), block) if scenario.copies else None
            until = _now() + int(seconds * 1e9)
            while _now() < until or len(puts) < 3:
                start = _now()
                _put_all(sender, scenario, block)
                middle = _now()
                _get_all(receiver, scenario, block)
                puts.append((middle - start) / block)
                gets.append((_now() - middle) / block)
                if copy_all is not None:
                    start = _now()
                    copy_all()
                    copies.append((_now() - start) / block)
            figures = {"put": median(puts), "get": median(gets)}
            pipe.send(figures | ({"two copies": median(copies)} if copies else {}))
            for end in (receiver, sender, *further):
                end.close()

        with _workers((0, loop)) as (worker,):
            answer: dict[str, float] = worker.answer()
            return answer


_MEASURES: Final = {
    "rate": _rate,
    "threads": _threads,
    "trip": _trip,
    "call": _call,
    "wake": _wake,
    "cpu": _cpu,
    "alone": _alone,
    "place": place,
}


def measure(peer: Peer, scenario: Scenario, seconds: float) -> dict[str, float]:
    """Run a scenario once, for about so many seconds, and return its figures."""
    return _MEASURES[scenario.kind](peer, scenario, seconds)


def main() -> None:
    """Answer what is asked on stdin, until it ends."""
    peer = find(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints is no answer
    for line in sys.stdin:
        name, seconds = json.loads(line)
        try:
            answer: object = measure(peer, scenarios.ALL[name], seconds)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
