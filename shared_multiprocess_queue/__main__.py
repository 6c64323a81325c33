"""``python -m shared_multiprocess_queue`` is ``shmq``."""

import sys


def main() -> None:
    """Run the command, or say which packages it lacks."""
    try:
        from .cli.app import main as command  # noqa: PLC0415 (so that a missing package can be named)

        command()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = {"click": "cli", "rich": "cli", "redis": "cli,redis"}.get(package)
        if extra is None:
            raise
        sys.exit(f"shmq needs the package {package}: pip install 'shared-multiprocess-queue[{extra}]'")


if __name__ == "__main__":
    main()
