"""Processes that die: before every step of an operation, or whenever a signal kills them.

Other deaths: of holders of leases in ``tests/leases``, of creators and removers in ``tests/segments``, of workers that
await in ``tests/tasks``. Victims with the engine in C are in ``stress/chaos/steps.py``.
"""
