"""Waiting for a queue with select and its kin."""
