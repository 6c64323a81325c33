"""Servers that work together, on loopback ports of their own: a master with replica and sentinels, a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from .server import Server, free_port

_PATIENCE = 60.0  # seconds
SERVICE = "main"


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; give up after a minute."""
    end = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.05)


class _Several:
    """Servers that begin and end together.

    Args:
        folder: for their files.
        program: "redis-server" or "valkey-server".

    Attributes:
        servers: all of them.
    """

    def __init__(self, folder: Path, program: str) -> None:
        self._folder = folder
        self._program = program
        self.servers: list[Server] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._kill()
            raise
        return self

    def _start(self) -> None:
        raise NotImplementedError

    def _started(self, name: str, **settings: str) -> Server:
        place = self._folder / name
        place.mkdir()
        server = Server(place, self._program, **settings)
        self.servers.append(server)
        server.start()
        return server

    def _kill(self) -> None:
        for server in self.servers:
            server.kill()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()


class Sentinels(_Several):
    """A master, its replica, and three sentinels that make the one the other if it is away for a second.

    Attributes:
        master: the server that begins as such.
        replica: that of the master.
        sentinels: their servers.
    """

    def _start(self) -> None:
        self.master = self._started("master")
        self.replica = self._started("replica")
        self.replica.command("REPLICAOF", "127.0.0.1", str(self.master.port))
        until(lambda: b"master_link_status:up" in self.replica.command("INFO", "replication"))
        self.sentinels = [self._sentinel(number) for number in range(3)]
        until(lambda: all(self._sees_all(one) for one in self.sentinels))

    def _sentinel(self, number: int) -> Server:
        file = self._folder / f"sentinel{number}.conf"
        file.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )
        sentinel = Server(self._folder, self._program)
        self.servers.append(sentinel)
        sentinel.start_as_sentinel(file)
        return sentinel

    def _sees_all(self, sentinel: Server) -> bool:
        with redis.Redis(port=sentinel.port) as client:
            told = client.sentinel_master(SERVICE)
        return (told["num-slaves"], told["num-other-sentinels"], told["flags"]) == (1, 2, "master")

    def url(self, name: str = "q") -> str:
        """Return the URL of a queue."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0#{name}"


class Cluster(_Several):
    """Three masters that share the slots, and a replica of the first.

    Attributes:
        masters: their servers.
        replica: of the first master.
    """

    def _start(self) -> None:
        for number in range(4):
            bus = free_port()
            settings = {"cluster-enabled": "yes", "cluster-port": str(bus), "cluster-node-timeout": "1000"}
            server = self._started(f"node{number}", **settings)
            if number:
                self.servers[0].command("CLUSTER", "MEET", "127.0.0.1", str(server.port), str(bus))
        *self.masters, self.replica = self.servers
        for number, first in enumerate((0, 5461, 10923)):
            last = (5460, 10922, 16383)[number]
            self.masters[number].command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        until(lambda: all(b"cluster_known_nodes:4" in one.command("CLUSTER", "INFO") for one in self.servers))
        until(lambda: b"+OK" in self.replica.command("CLUSTER", "REPLICATE", self.id_of(self.masters[0])))
        until(lambda: all(b"cluster_state:ok" in one.command("CLUSTER", "INFO") for one in self.servers))
        until(lambda: b"master_link_status:up" in self.replica.command("INFO", "replication"))
        until(lambda: all(self._has_replica(one) for one in self.masters))

    def _has_replica(self, of: Server) -> bool:
        return any(b"slave" in line for line in of.command("CLUSTER", "NODES"))

    def id_of(self, server: Server) -> str:
        """Return the name of a node."""
        return server.command("CLUSTER", "MYID")[1].decode()

    def slot_of(self, key: str) -> int:
        """Return the slot of a key."""
        return int(self.masters[0].command("CLUSTER", "KEYSLOT", key)[0][1:])

    def move(self, slot: int, source: Server, target: Server) -> None:
        """Move a slot and its keys, as an operator would, one key after the other."""
        target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.id_of(source))
        source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.id_of(target))
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", str(slot), "1")[2::2]:
            source.raw("MIGRATE", "127.0.0.1", str(target.port), keys[0], "0", "5000")
            time.sleep(0.01)
        for server in (target, source, *self.servers):
            server.command("CLUSTER", "SETSLOT", str(slot), "NODE", self.id_of(target))

    def url(self, name: str = "q") -> str:
        """Return the URL of a queue, with the nodes that have been masters from the beginning."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.masters)
        return f"redis+cluster://{hosts}/0#{name}"
