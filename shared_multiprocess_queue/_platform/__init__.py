"""Doors to the outside: time, memory, processes, futexes, sockets, the packages behind them. None knows of queues."""
