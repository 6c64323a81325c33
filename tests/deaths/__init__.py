"""Processes that die: before every step of an operation, or whenever a signal kills them."""
