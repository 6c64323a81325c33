"""The words of shared memory, and where each of them lies."""
