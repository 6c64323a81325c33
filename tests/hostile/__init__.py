"""Bad input of every kind: damaged segments, wrong arguments, objects that misbehave."""
