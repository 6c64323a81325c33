"""Acknowledged delivery: leases, their ends, join, and what deaths, forks and interrupts leave of them."""
