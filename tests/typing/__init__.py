"""Checked by a type checker, and never run."""
