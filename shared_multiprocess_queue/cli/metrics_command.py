"""The command ``shmq metrics``: what Prometheus scrapes, printed once or served."""

from __future__ import annotations

import os
from glob import escape
from typing import Final

import click

from .._platform import clock
from ..errors import QueueNotFoundError
from ..looking import list_queues
from ..looking.files import inspected
from .looks import only_here, run_id_option
from .output import EXIT_CODES, NOT_PERMITTED, NOT_USABLE, answering, fail, name, print_json, reason
from .stop_signals import StopSignals

_LOOPBACK: Final = "127.0.0.1"
_SLICE: Final = 0.2  # seconds between two looks at signals


@click.command("metrics", epilog=EXIT_CODES)
@click.argument("names", metavar="NAME...", nargs=-1, callback=only_here)
@click.option("--all", "everything", is_flag=True, help="All queues of this user.")
@click.option("--format", "form", type=click.Choice(["openmetrics", "json"]), default="openmetrics", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--serve", metavar="[HOST:]PORT", help="Serve /metrics until a signal; on loopback without a HOST.")
@run_id_option
@answering
def metrics_command(
    names: tuple[str, ...], everything: bool, form: str, as_json: bool, serve: str | None, run_id: str
) -> None:
    """Print metrics of queues for Prometheus, or serve them.

    A NAME may be a pattern, as in a shell, if no queue has that name. Each scrape looks at the queues anew.
    """
    if bool(names) == everything:
        raise click.UsageError("give the names of queues, or --all")
    patterns = [_pattern(each, run_id) for each in names]
    if as_json or form == "json":
        if serve is not None:
            raise click.UsageError("--serve serves what Prometheus reads, and not JSON")
        queues = {queue.name: queue for pattern in patterns or ("*",) for queue in list_queues(pattern)}
        print_json("metrics", queues=[queue.as_dict() for queue in queues.values()])
        return
    try:
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 (an extra)
        from prometheus_client.openmetrics.exposition import generate_latest  # noqa: PLC0415

        from ..prometheus import SharedMemoryQueueCollector  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise fail(
            f"shmq metrics needs the package {error.name}: pip install 'shared-multiprocess-queue[cli,metrics]'"
        ) from error
    registry = CollectorRegistry()
    registry.register(SharedMemoryQueueCollector(*patterns))
    if serve is None:
        click.echo(generate_latest(registry), nl=False)  # type: ignore[no-untyped-call]
        return
    host, port = _address(serve)
    with StopSignals() as signals:
        server, _ = start_http_server(port, host, registry)
        try:
            click.echo(f"serving http://{name(host)}:{server.server_port}/metrics", err=True)
            while True:
                signals.check()
                clock.sleep(_SLICE)
        finally:
            server.shutdown()
            server.server_close()


def _pattern(queue_name: str, run_id: str) -> str:
    """Return the pattern of a queue, or of several.

    Raises:
        QueueNotFoundError: it is the name of a queue, and there is none; a pattern may match none.
        click.ClickException: there is one, and it has no metrics.
    """
    try:
        queue = inspected(queue_name, run_id, mapped=False)
    except QueueNotFoundError:
        if set(queue_name) & set("*?["):
            return f"{escape(run_id)}-{queue_name}" if run_id else queue_name
        raise
    if queue.state == "denied":
        raise fail(f"{name(queue.name)}: {queue.why}", NOT_PERMITTED)
    if queue.uid != os.geteuid():
        raise fail(f"{name(queue.name)} is of user {queue.uid}; metrics are of the queues of this user", NOT_PERMITTED)
    if queue.state != "ok":
        raise fail(f"{name(queue.name)} has no metrics: {reason(queue)}", NOT_USABLE)
    return escape(queue.name)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"--serve takes [HOST:]PORT, with a port of 0 to 65535, not {name(text)!r}")
    return host.strip("[]") or _LOOPBACK, int(port)
