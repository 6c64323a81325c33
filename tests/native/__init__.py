"""The native engine, and the algorithm in C."""
