"""Looking never writes, and ends, whatever the segment says."""
