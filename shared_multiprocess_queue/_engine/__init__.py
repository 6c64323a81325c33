"""One handle in one process: its operations and records, the life of its queue, and its metrics."""
