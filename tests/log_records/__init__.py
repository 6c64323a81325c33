"""The module ``logging`` over a queue."""
