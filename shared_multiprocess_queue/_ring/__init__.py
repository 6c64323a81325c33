"""What lies in the segment, and what may be done to it. Integers and bytes; no objects, no handles.

A step with a label, such as [P8], is an edge of the protocol. Its row in ``docs/protocol.md`` comes first.
"""
