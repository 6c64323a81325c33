"""Doors to the outside: time, memory, processes, futexes, sockets, the packages behind them. None knows of queues.

Each door has a row in ``DOORS`` in ``tests/house/test_rooms.py``.
"""
