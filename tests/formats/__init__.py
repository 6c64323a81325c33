"""Queues with ``serializer="plain"``, and with ``dumps`` and ``loads`` of the program."""
