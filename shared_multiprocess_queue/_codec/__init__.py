"""Objects to bytes and back. Nothing of queues."""
