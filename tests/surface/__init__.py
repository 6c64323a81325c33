"""What programs see of the class beside the queue: arguments, signatures, subclasses."""
