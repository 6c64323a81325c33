"""One suite for put, get and their kin, on each engine, on both at once, and in each mode."""
