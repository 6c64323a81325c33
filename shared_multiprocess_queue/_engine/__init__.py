"""One handle in one process: operations, records, the life of a queue, what an operator sees."""
