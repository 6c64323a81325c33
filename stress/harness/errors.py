"""What ends a run that cannot begin."""

from __future__ import annotations

import click


class SetupError(click.ClickException):
    """Something that a run needs is missing or cannot be built; the message says what, and what to do."""
