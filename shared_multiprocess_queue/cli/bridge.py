"""The command bridge: brings items between a local queue and one on a server."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Literal

import click

from .._platform import clock
from .._remote import where
from .._remote.forms import SERIALIZERS, Serializer
from .._remote.where import Place
from ..errors import (
    ArgumentError,
    LeasesRequiredError,
    QueueClosedError,
    QueueMismatchError,
    QueueNotFoundError,
    ShutDown,
)
from ..queue import SharedMemoryQueue
from .looks import run_id_option
from .output import EXIT_CODES, NOT_THERE, answering, fail, safe
from .stop_signals import StopSignals

if TYPE_CHECKING:
    from ..bridge import Bridge

SECRET: Final = "SHMQ_SECRET"
SUPERSEDED: Final = 6
_STOPPING: Final = 3.0  # seconds after a signal in which what is leased can be given back
_PATIENCE: Final = 1.0  # seconds after which a server that does not answer is asked again, and signals are looked at


@click.command("bridge", epilog=f"{EXIT_CODES} Also 6: another bridge has taken this one's place.")
@click.argument("local")
@click.argument("url")
@click.option(
    "--direction",
    type=click.Choice(["out", "in"]),
    default="out",
    show_default=True,
    help="out: from the local queue to the server; in: from the server to the local queue.",
)
@click.option("--batch", metavar="N", type=click.IntRange(1, 1000), default=100, show_default=True, help="Most items.")
@click.option("--serializer", type=click.Choice(SERIALIZERS), default="plain", show_default=True, help="There.")
@click.option("--trust-the-server", is_flag=True, help="Read pickles that nothing has signed.")
@click.option("--accept-eviction", is_flag=True, help="Use a server that may drop the queue.")
@run_id_option
@click.option("--remote-run-id", default="", metavar="R", help="The run_id of the queue on the server.")
@answering
def bridge_command(
    local: str,
    url: str,
    direction: Literal["in", "out"],
    batch: int,
    serializer: Serializer,
    trust_the_server: bool,
    accept_eviction: bool,
    run_id: str,
    remote_run_id: str,
) -> None:
    """Bring the items of one queue to the other, until a signal comes or the source is shut down and empty.

    LOCAL is the name of a queue of this machine, URL that of a queue on a server, as in redis://host:6379/0#jobs. Both
    exist already: the programs that put into them create them, as they know how large they are to be. The source has
    leases: an item leaves it when the other queue has it, so a bridge that is killed loses none.

    Each item that goes out arrives once. Of those that come in, at most one batch arrives twice for each death of a
    bridge. An item that the other queue cannot take stays where it is, and is tried again a minute later.

    The environment variable SHMQ_PASSWORD has the server's password, SHMQ_SECRET the secret of the items, in hex; of
    several, with commas between them, the first signs, and each is accepted.
    """
    from ..bridge import Bridge, SupersededError  # noqa: PLC0415  # imports redis-py, which --help does not need
    from ..remote import RemoteQueue  # noqa: PLC0415

    place = _place(local, url)
    secret = _secret()
    if serializer == "pickle" and not secret and not trust_the_server:
        raise click.UsageError(
            f"--serializer pickle needs the environment variable {SECRET}, or --trust-the-server: a pickle is a "
            f"program, and without a secret any writer to the server could have it run here"
        )
    names = (f"the local queue {local!r}", f"the queue {place.shown}")
    source, target = names if direction == "out" else names[::-1]
    bridge: Bridge | None = None
    try:
        with ExitStack() as stack:
            try:
                far = RemoteQueue(
                    url,
                    run_id=remote_run_id,
                    serializer=serializer,
                    secret=secret,
                    trust_the_server=trust_the_server,
                    accept_eviction=accept_eviction,
                    reconnect=_PATIENCE,
                )
            except QueueNotFoundError:
                raise _not_there(names[1], "--remote-run-id", remote_run_id) from None
            except QueueMismatchError as error:
                raise _differs(names[1], error) from None
            stack.enter_context(far)
            signals = stack.enter_context(StopSignals())  # before this a signal ends the process, which has nothing yet
            try:
                near = stack.enter_context(SharedMemoryQueue(local, run_id=run_id))
            except QueueNotFoundError:
                raise _not_there(names[0], "--run-id", run_id) from None
            bridge = Bridge(near, far, direction, batch, lambda: signals.received is not None, _warn)
            threading.Thread(target=_bound, args=(signals, bridge), daemon=True).start()
            try:
                bridge.run()
            except QueueClosedError:
                signals.check()
                raise
            signals.check()
    except LeasesRequiredError:
        raise click.UsageError(
            f"{safe(source)} has no leases, so a bridge that is killed would lose items; create it with leases=N, "
            f"N being the number of items in processing at once"
        ) from None
    except SupersededError:
        raise fail(f"another bridge brings the items of {source} from now on", SUPERSEDED) from None
    except ShutDown:
        raise fail(f"{target} was shut down, and takes nothing; what was leased has been given back") from None
    finally:
        if bridge is not None:
            click.echo(f"{bridge.brought:,} brought, {bridge.again:,} delivered again, {bridge.refused:,} refused")


def _place(local: str, url: str) -> Place:
    """Return where the remote queue is. A text that is no URL is not shown: it may have a password."""
    if "://" in local:
        given = _parsed(local).shown
        advice = (
            "they are swapped: write shmq bridge LOCAL URL" if "://" not in url else "it is the name of a queue here"
        )
        raise click.UsageError(f"LOCAL is {given!r}, a URL; {advice}")
    if "://" not in url:
        given = "a name" if "@" in url else repr(safe(url))
        raise click.UsageError(f"URL is {given}, without '://'; write redis://host:6379/0#tasks")
    return _parsed(url)


def _parsed(url: str) -> Place:
    try:
        return where.parse(url)
    except ArgumentError as error:
        raise click.UsageError(safe(str(error))) from None


def _not_there(queue: str, option: str, run_id: str) -> click.ClickException:
    of_run = f" of the run_id {run_id!r}" if run_id else ""
    return fail(
        f"there is no queue for a bridge: {queue}{of_run} does not exist; a program creates it by create=True, "
        f"exist_ok=True, and {option} has its run_id",
        NOT_THERE,
    )


def _differs(queue: str, error: QueueMismatchError) -> click.ClickException:
    """Return the error of a queue whose items have another form, in terms of the command."""
    is_signed, serializer = error.found.get("secret"), error.found.get("serializer")
    advice = []
    if is_signed is not None:
        advice.append(f"its items are {is_signed}: {'set' if is_signed == 'signed' else 'leave out'} {SECRET}")
    if serializer is not None:
        advice.append(f"its items are written with another serializer: pass --serializer {serializer}")
    return click.UsageError(f"{safe(queue)} cannot be read; {'; '.join(advice)}")


def _bound(signals: StopSignals, bridge: Bridge) -> None:
    """Bound the time from a signal to the end: what stops services kills them after ten seconds."""
    signals.wait()
    clock.sleep(_STOPPING)
    bridge.cut()


def _secret() -> list[bytes] | None:
    try:
        return [bytes.fromhex(one) for one in os.environ.get(SECRET, "").split(",") if one.strip()] or None
    except ValueError:
        raise click.UsageError(f"{SECRET} must have the secret in hex, two digits for each byte") from None


def _warn(text: str) -> None:
    click.echo(safe(text), err=True)
