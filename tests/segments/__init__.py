"""How segments are born, found, damaged, refused and removed."""
