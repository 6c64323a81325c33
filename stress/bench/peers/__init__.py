"""The queues that are measured, a module for each kind; those of packages that are not installed are left out.

A peer's package is imported where its channel is made, so that their list costs nothing.
"""

from __future__ import annotations

from ..channel import Peer
from . import ours, previous, sleeping, spinning, standard

ALL: list[Peer] = [*ours.PEERS, *previous.PEERS, *standard.PEERS, *sleeping.PEERS, *spinning.PEERS]


def find(name: str) -> Peer:
    """Return the peer of a name."""
    return next(peer for peer in ALL if peer.name == name)
