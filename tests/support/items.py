"""Items that cannot be serialised, or not be read back."""

from __future__ import annotations

from typing import Any


def refuse(*_: object) -> None:
    raise LookupError("no way back")


class Poison:
    """Can be serialised, and not be read back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, (1,)


class Unwilling:
    """Cannot be serialised."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise LookupError("no way out")


class Refusing:
    """Raises these errors, one each time that it is asked, and then gives in."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)

    def __reduce__(self) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return Refusing, ()
