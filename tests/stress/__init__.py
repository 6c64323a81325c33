"""The stress kit in short, and proof that it can find something."""
