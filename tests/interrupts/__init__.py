"""Ctrl-C and other exceptions from outside, at every point of a call."""
