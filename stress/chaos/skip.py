"""The exception of a kind of trouble that is not possible on this machine."""

from __future__ import annotations


class Skip(Exception):
    """This kind is not possible here; the message says why."""
