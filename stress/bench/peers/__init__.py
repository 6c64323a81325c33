"""The queues that are measured, a module for each kind; those of packages that are not installed are left out."""
