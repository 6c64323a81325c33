"""The queues that are measured, a module for each kind of them; those of packages that are not installed are left out."""
