"""The command ``shmq bridge``."""

from __future__ import annotations

import os

import click

from ..bridge import Bridge, Direction, SupersededError
from ..errors import SharedMemoryQueueError, ShutDown
from ..queue import SharedMemoryQueue
from ..remote import RemoteQueue
from .stop_signals import InterruptedBySignal, StopSignals

SECRET = "SHMQ_SECRET"
_PATIENCE = 5.0  # seconds after which a server that does not answer is asked again, and signals are looked at


@click.command("bridge")
@click.argument("local")
@click.argument("url")
@click.option(
    "--direction",
    type=click.Choice(["out", "in"]),
    default="out",
    show_default=True,
    help="out: from the local queue to the server; in: from the server to the local queue.",
)
@click.option(
    "--batch", metavar="N", type=click.IntRange(1, 1000), default=100, show_default=True, help="Most at once."
)
@click.option("--run-id", metavar="TEXT", default="", help="Prefix of the local queue's name.")
@click.option(
    "--serializer",
    type=click.Choice(["plain", "pickle"]),
    default="plain",
    show_default=True,
    help="Of the remote queue.",
)
def bridge_command(local: str, url: str, direction: Direction, batch: int, run_id: str, serializer: str) -> None:
    """Bring the items of one queue to the other, until a signal comes or the source is shut down and empty.

    LOCAL is the name of a queue of this machine, URL that of a queue on a server, as in redis://host:6379/0#jobs. Both
    exist. The source has leases: an item leaves it when the other queue has it, so a bridge that is killed loses none.

    Each item that goes out arrives once. Of those that come in, at most one batch arrives twice for each death of a
    bridge. An item that the other queue cannot take stays where it is, and is tried again a minute later.

    The environment variable SHMQ_PASSWORD has the server's password, SHMQ_SECRET the secret of the items, in hex.

    Exit codes: 0 the source is shut down and empty, or was removed; 1 an error; 2 wrong usage; 3 another bridge has
    taken this one's place; 128 + n stopped by signal n.
    """
    try:
        secret = bytes.fromhex(os.environ.get(SECRET, "")) or None
    except ValueError:
        raise click.UsageError(f"{SECRET} must have the secret in hex, two digits for each byte") from None
    bridge: Bridge | None = None
    try:
        with StopSignals() as signals:
            with (
                SharedMemoryQueue(local, run_id=run_id) as near,
                RemoteQueue(
                    url,
                    serializer=serializer,  # type: ignore[arg-type]  # one of the choices
                    secret=secret,
                    reconnect=_PATIENCE,
                ) as far,
            ):
                bridge = Bridge(near, far, direction, batch, lambda: signals.received is not None, _warn)
                bridge.run()
            signals.check()
    except InterruptedBySignal as stop:
        raise SystemExit(128 + stop.signal) from None
    except SupersededError:
        click.echo("Another bridge brings the items of this queue from now on.", err=True)
        raise SystemExit(3) from None
    except ShutDown:
        raise click.ClickException("the target queue was shut down; what was leased has been given back") from None
    except (SharedMemoryQueueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        if bridge is not None:
            click.echo(f"{bridge.brought:,} brought, {bridge.again:,} delivered again, {bridge.refused:,} refused")


def _warn(text: str) -> None:
    click.echo(text, err=True)
