"""Objects to bytes and back. Nothing in here knows of queues."""
