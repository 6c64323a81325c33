"""Metrics of queues for Prometheus: a collector for the registry of a program. It needs the extra ``metrics``.

>>> from prometheus_client import REGISTRY
>>> REGISTRY.register(SharedMemoryQueueCollector("app-*"))

``FAMILIES`` lists what is exported. What ``get_metrics()`` returns is in ``_engine/metrics.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .looking.files import listed
from .looking.found import QueueFile, QueueLook
from .looking.rates import Change, Changes

Samples = Callable[[QueueFile, QueueLook, Change], dict[str, float]]
"""Returns the values of a metric by the value of its label; by "" if it has none."""


@dataclass(frozen=True)
class _Family:
    """A metric.

    Attributes:
        name: without the prefix "shmq_" and, for a counter, without "_total".
        text: what it says.
        samples: its values for a queue.
        label: the label beside "queue"; empty for none.
        is_counter: it only grows.
    """

    name: str
    text: str
    samples: Samples
    label: str = ""
    is_counter: bool = False


def _counter(name: str, text: str, attributes: dict[str, str], label: str = "") -> _Family:
    """Return a family of counters; ``attributes`` has their names in a ``QueueLook``, by the value of the label."""
    return _Family(
        name,
        text,
        lambda queue, look, change: {value: change.totals[attribute] for value, attribute in attributes.items()},
        label,
        is_counter=True,
    )


def _processes(queue: QueueFile, look: QueueLook, change: Change) -> dict[str, float]:
    return {"alive": look.count("alive", "paused"), "dead": look.count("dead"), "unknown": look.count("unknown")}


_WAITS: Final = {"put": "put_waits", "get": "get_waits"}
_REFUSED: Final = {"full": "full_events", "empty": "empty_events"}
_RECOVERED: Final = {"get": "orphans_recovered", "put": "dead_puts"}
FAMILIES: Final = (
    _Family("items", "Items in the queue.", lambda queue, look, change: {"": look.items}),
    _Family("slots_used", "Slots that hold items.", lambda queue, look, change: {"": look.slots_used}),
    _Family("capacity", "Slots of the queue.", lambda queue, look, change: {"": look.capacity}),
    _Family("item_size_bytes", "Most bytes of an item in one slot.", lambda queue, look, change: {"": look.item_size}),
    _Family(
        "max_item_size_bytes",
        "Most bytes of an item, which may take several slots.",
        lambda queue, look, change: {"": look.max_item_size},
    ),
    _Family("memory_bytes", "Shared memory that the queue takes.", lambda queue, look, change: {"": queue.memory}),
    _counter("put", "Slots filled by puts.", {"": "put_total"}),
    _counter("got", "Slots freed by gets.", {"": "got_total"}),
    _counter("waits", "Times that a put or a get slept.", _WAITS, "side"),
    _counter("refused", "Times that Full (Empty) was raised.", _REFUSED, "why"),
    _counter(
        "recovered",
        "Items taken over, and dead puts.",
        {"get": "orphans_recovered", "put": "dead_puts"},
        "what",
    ),
    _counter("bells_refused", "Rings of a doorbell that no process answered.", {"": "bells_refused"}),
    _Family("leases", "Lease slots of the queue.", lambda queue, look, change: {"": look.leases}),
    _Family("leased", "Items that are being processed.", lambda queue, look, change: {"": len(look.leased)}),
    _counter("redelivered", "Times that a leased item was handed out again.", {"": "redelivered"}),
    _counter("lease_waits", "Times that a get found no lease for an item.", {"": "lease_waits"}),
    _Family("dead_letters", "Dead letters that are there.", lambda queue, look, change: {"": look.dead_letters}),
    _Family("processes", "Processes that take part, by their records.", _processes, "state"),
    _Family(
        "blocked_seconds",
        "For how long a live process was in the way of others, from the first look of the process that looks.",
        lambda queue, look, change: {"": change.blocked[1] if change.blocked else 0},
    ),
)
"""All metrics; each has the label "queue" besides its own."""


class SharedMemoryQueueCollector(Collector):
    """A collector of prometheus_client. Each scrape looks at the queues anew, and changes nothing in them.

    A queue that is gone is no longer exported, nor is one that is damaged or of another layout. The counters of a queue
    that was made anew begin anew; their ``_created`` tells.

    Args:
        patterns: of the names of queues, as of ``list_queues``. Without any: all queues of this user.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> registry = CollectorRegistry()
        >>> registry.register(SharedMemoryQueueCollector("app-*"))
    """

    def __init__(self, *patterns: str) -> None:
        self._patterns = patterns or ("*",)
        self._changes = Changes()

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values, so that to register the collector looks at no queue."""
        return [_empty(family) for family in FAMILIES]

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all queues."""
        queues = {queue.name: queue for pattern in self._patterns for queue in listed(pattern, False, mapped=False)}
        changes = self._changes.note(queues.values())
        for family in FAMILIES:
            metric = _empty(family)
            for name, queue in queues.items():
                if queue.look is None or queue.state != "ok":
                    continue
                for value, number in family.samples(queue, queue.look, changes[name]).items():
                    labels = [label_of(name), value] if family.label else [label_of(name)]
                    if isinstance(metric, CounterMetricFamily):
                        metric.add_metric(labels, number, created=queue.created)
                    else:
                        metric.add_metric(labels, number)
            yield metric


def label_of(name: str) -> str:
    """Return a name as a label can have it: a backslash, and what is no printable character, is escaped."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name)


def _empty(family: _Family) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if family.is_counter else GaugeMetricFamily
    labels = ["queue", family.label] if family.label else ["queue"]
    return kind(f"shmq_{family.name}", family.text, labels=labels)
