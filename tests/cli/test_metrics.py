"""shmq metrics and the collector: what the official parser reads is what the queue says."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser

from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.prometheus import FAMILIES, SharedMemoryQueueCollector
from stress.hostile import staging
from tests.support.demo import COMMAND
from tests.support.places import REPOSITORY, SHM
from tests.support.queues import MakeQueue
from tests.support.shmq import shmq, shmq_json
from tests.support.waiting import LONG

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files")

DASHBOARD = REPOSITORY / "docs" / "tools" / "grafana.json"


def families_of(text: str) -> Iterator[Metric]:
    """Yield what the official parser of OpenMetrics reads."""
    yield from parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return the values by the name of the sample and its labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families_of(text)
        for sample in family.samples
    }


def test_what_is_scraped_is_what_the_queue_says(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    q = make_queue(capacity=4, item_size=100, max_item_size=400, leases=2)
    name = f"{run_id}-q"
    q.put_batch([1, 2, 3])
    lease = q.lease()
    with pytest.raises(q.Full):
        q.put_batch([1, 2, 3], block=False)
    code, output, errors = shmq("metrics", name)
    assert (code, errors) == (0, "")
    found, metrics = samples(output), q.get_metrics()
    assert found["shmq_items", name] == 2 == metrics["queue_size"]
    assert found["shmq_slots_used", name] == 2 == metrics["queue_slots_used"]
    assert found["shmq_capacity", name] == 4
    assert found["shmq_item_size_bytes", name] == 100 == metrics["queue_item_size_bytes"]
    assert found["shmq_max_item_size_bytes", name] == 400 == metrics["queue_max_item_size_bytes"]
    assert found["shmq_put_total", name] == 3 == metrics["put_total"]
    assert found["shmq_got_total", name] == 1 == metrics["got_total"]
    assert found["shmq_refused_total", name, "full"] == 1
    assert found["shmq_leased", name] == 1
    assert found["shmq_processes", name, "alive"] == 1
    assert found["shmq_blocked_seconds", name] == 0
    assert found["shmq_put_created", name] > 1e9
    assert {key[0].removesuffix("_total").removesuffix("_created") for key in found} == {
        f"shmq_{family.name}" for family in FAMILIES
    }
    lease.done()


def test_which_queues_are_exported(make_queue: MakeQueue, run_id: str) -> None:
    make_queue("a")
    make_queue("b")
    damaged = staging.Stage(make_queue("damaged", engine="atomics"))
    damaged.write(layout.CAPACITY_AT, 1 << 40)
    text = shmq("metrics", f"{run_id}-*").output
    assert {key[1] for key in samples(text)} == {f"{run_id}-a", f"{run_id}-b"}
    assert {queue["state"] for queue in shmq_json("metrics", f"{run_id}-*")["queues"]} == {"ok", "damaged"}
    assert shmq("metrics", f"{run_id}-none").code == 3
    assert samples(shmq("metrics", f"{run_id}-none*").output) == {}
    assert shmq("metrics").code == 2
    assert shmq("metrics", "--all", "some").code == 2


def test_a_collector_in_a_registry_of_ones_own(make_queue: MakeQueue, run_id: str) -> None:
    """Counters do not go down between scrapes, and a queue that is gone is no longer there."""
    registry = CollectorRegistry()
    registry.register(SharedMemoryQueueCollector(f"{run_id}-*"))
    q = make_queue(capacity=3, engine="atomics")
    stage = staging.Stage(q)
    stage.place(6, 2)
    name = {"queue": f"{run_id}-q"}
    assert registry.get_sample_value("shmq_put_total", name) == 8
    stage.place(3, 1)
    assert registry.get_sample_value("shmq_put_total", name) == 8
    stage.place(9, 1)
    assert registry.get_sample_value("shmq_put_total", name) == 10
    families = {
        family.name for family in text_parser.text_string_to_metric_families(generate_latest(registry).decode())
    }
    assert {f"shmq_{family.name}" for family in FAMILIES} <= families | {f"{one}_total" for one in families}
    q.close()
    q.unlink()
    assert registry.get_sample_value("shmq_put_total", name) is None


def test_blockers_count_from_the_first_look(make_queue: MakeQueue, run_id: str) -> None:
    """So a single look says 0 of a blocker that is there; the help says so."""
    q = make_queue()
    registry = CollectorRegistry()
    registry.register(SharedMemoryQueueCollector(f"{run_id}-*"))
    name = {"queue": f"{run_id}-q"}
    with q.reserve(1):
        for text in (shmq("metrics", f"{run_id}-q").output, generate_latest(registry).decode()):
            (family,) = [one for one in text_parser.text_string_to_metric_families(text) if "blocked" in one.name]
            assert [sample.value for sample in family.samples] == [0]
            assert "from the first look of the process that looks" in family.documentation
        assert registry.get_sample_value("shmq_blocked_seconds", name) > 0  # type: ignore[operator]
        (queue,) = shmq_json("metrics", f"{run_id}-q")["queues"]
        assert queue["look"]["blocked_by"]


def test_labels_are_data(run_id: str, make_queue: MakeQueue) -> None:
    q = make_queue('a"b\\c\nd')
    copy = SHM / f"{run_id}-x\udce9-queue"
    copy.write_bytes(q._membership.segment.buffer)
    try:
        names = {key[1] for key in samples(shmq("metrics", f"{run_id}-*").output.encode().decode())}
    finally:
        copy.unlink()
    assert names == {f'{run_id}-a"b\\\\c\\nd', f"{run_id}-x\\udce9"}


def test_a_name_in_colours_is_no_other_name(run_id: str, make_queue: MakeQueue) -> None:
    make_queue("\x1b[31mred")
    make_queue("red")
    names = {key[1] for key in samples(shmq("metrics", f"{run_id}-*").output)}
    assert names == {f"{run_id}-\\x1b[31mred", f"{run_id}-red"}


def test_a_name_comes_before_a_pattern(run_id: str, make_queue: MakeQueue) -> None:
    make_queue("a[b]")
    make_queue("ab")
    for arguments in ([f"{run_id}-a[b]"], ["a[b]", "--run-id", run_id]):
        assert {key[1] for key in samples(shmq("metrics", *arguments).output)} == {f"{run_id}-a[b]"}
    assert {key[1] for key in samples(shmq("metrics", "a*", "--run-id", run_id).output)} == {
        f"{run_id}-a[b]",
        f"{run_id}-ab",
    }


def test_a_queue_without_metrics_is_told(run_id: str, make_queue: MakeQueue) -> None:
    stage = staging.Stage(make_queue(engine="atomics"))
    stage.write(layout.HEAD, 99)
    code, output, errors = shmq("metrics", f"{run_id}-q")
    assert (code, output) == (5, "")
    assert "contradict" in errors


@pytest.mark.costly
@pytest.mark.parametrize("address", ["0", "127.0.0.1:0", "localhost:0"])
def test_it_is_served_until_a_signal(make_queue: MakeQueue, run_id: str, address: str) -> None:
    make_queue().put(1)
    command = [*COMMAND, "metrics", "--serve", address, f"{run_id}-*"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stderr is not None
            line = serving.stderr.readline()
            (url,) = re.findall(r"http://(?:127\.0\.0\.1|localhost):\d+/metrics", line)
            with urllib.request.urlopen(url, timeout=LONG) as response:
                text = response.read().decode()
            found = {s.name: s.value for f in text_parser.text_string_to_metric_families(text) for s in f.samples}
            assert found["shmq_items"] == 1
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(LONG) == 128 + signal.SIGTERM
            assert serving.stderr.read() == ""
        finally:
            serving.kill()


@pytest.mark.parametrize("address", ["x", "70000", "host:", "1:2:x"])
def test_addresses_that_are_none(address: str) -> None:
    assert shmq("metrics", "--all", "--serve", address).code == 2


def test_it_says_which_package_is_missing() -> None:
    imports = "from shared_multiprocess_queue.cli.app import main"
    script = f"import sys; sys.modules['prometheus_client'] = None; {imports}; main()"
    command = [sys.executable, "-c", script, "metrics", "--all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert "pip install 'shared-multiprocess-queue[cli,metrics]'" in done.stderr


# ---- the dashboard --------------------------------------------------------------------------------------------------


def expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_the_panels_show_what_is_scraped(make_queue: MakeQueue, run_id: str) -> None:
    """Each name in a panel is a sample of a scrape, each label a label of it; and each metric has its panel."""
    make_queue(leases=1)
    found: dict[str, set[str]] = {}
    for family in families_of(shmq("metrics", f"{run_id}-q").output):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    shown = set()
    for expression in expressions():
        names = set(re.findall(r"\bshmq_\w+", expression))
        assert names, expression
        assert names <= set(found), expression
        shown |= names
    assert shown == {name for name in found if not name.endswith("_created")}


def test_rates_are_of_counters_and_legends_of_labels() -> None:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    labels = {f"shmq_{one.name}{'_total' * one.is_counter}": {"queue", one.label} for one in FAMILIES}
    for panel in board["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            (name, *_) = re.findall(r"\bshmq_\w+", expression)
            assert name.endswith("_total") == bool(re.match(r"(rate|increase)\(", expression)), expression
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels[name]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in board["panels"]}) == len(places)
    (variable,) = [one for one in board["templating"]["list"] if one["name"] == "queue"]
    assert variable["query"]["query"] == "label_values(shmq_items, queue)"
