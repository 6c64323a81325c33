"""What a kind of trouble raises that is not possible on this machine."""

from __future__ import annotations


class Skip(Exception):
    """Not possible here; the message says why."""
