"""Calls that tasks of asyncio await: their order, their ends, cancellation and deaths."""
