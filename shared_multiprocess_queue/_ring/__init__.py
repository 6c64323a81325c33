"""What lies in the segment, and what may be done to it. Integers and bytes; no objects, no handles."""
