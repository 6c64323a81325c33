"""The lock of batches: one int32 that the package shared_memory_lock knows, too."""
