"""Handles in several processes: children of each kind, strangers, forks at any moment, and liveness."""
