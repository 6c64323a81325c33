"""Words of shared memory."""

GREATEST = (1 << 64) - 1
