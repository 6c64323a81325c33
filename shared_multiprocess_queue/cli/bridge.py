"""The command bridge: brings items between a local queue and one on a server."""

from __future__ import annotations

import os
import threading
from typing import Final, cast

import click

from .._platform import clock
from .._remote.forms import SERIALIZERS, Serializer
from ..bridge import Bridge, Direction, SupersededError
from ..errors import QueueClosedError, ShutDown
from ..queue import SharedMemoryQueue
from ..remote import RemoteQueue
from .looks import run_id_option
from .output import EXIT_CODES, answering, fail, safe
from .stop_signals import StopSignals

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
    direction: str,
    batch: int,
    serializer: str,
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
    secret = _secret()
    bridge: Bridge | None = None
    try:
        with (
            RemoteQueue(
                url,
                run_id=remote_run_id,
                serializer=cast(Serializer, serializer),
                secret=secret,
                trust_the_server=trust_the_server,
                accept_eviction=accept_eviction,
                reconnect=_PATIENCE,
            ) as far,
            StopSignals() as signals,  # before this a signal ends the process, which has nothing yet
            SharedMemoryQueue(local, run_id=run_id) as near,
        ):
            way = cast(Direction, direction)
            bridge = Bridge(near, far, way, batch, lambda: signals.received is not None, _warn)
            threading.Thread(target=_bound, args=(signals, bridge), daemon=True).start()
            try:
                bridge.run()
            except QueueClosedError:
                signals.check()
                raise
            signals.check()
    except SupersededError:
        raise fail("another bridge brings the items of this queue from now on", SUPERSEDED) from None
    except ShutDown:
        raise fail("the target queue was shut down; what was leased has been given back") from None
    finally:
        if bridge is not None:
            click.echo(f"{bridge.brought:,} brought, {bridge.again:,} delivered again, {bridge.refused:,} refused")


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
