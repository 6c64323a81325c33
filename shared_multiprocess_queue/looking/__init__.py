"""Queues seen from outside: listed and inspected without taking part in them. Nothing in them is changed."""

from .files import inspect, list_queues
from .found import QueueBlocker, QueueFile, QueueLease, QueueLook, QueueProcess

__all__ = ["QueueBlocker", "QueueFile", "QueueLease", "QueueLook", "QueueProcess", "inspect", "list_queues"]
