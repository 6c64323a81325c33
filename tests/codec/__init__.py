"""What goes in comes out: plain data, things of ``__main__``, and what is refused."""
