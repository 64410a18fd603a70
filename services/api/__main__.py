"""The API's process: ``python -m neuromas.services.api``, with the settings of the environment."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys

from neuromas.services.api.server import serve
from neuromas.services.children import PRIVATE_UMASK
from neuromas.services.logs import set_up_logging
from neuromas.services.settings import SettingsError, load_settings


def main(argv: list[str]) -> int:
    """Serve until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="neuromas.services.api", description="Serve the API of NeuroMAS.")
    parser.add_argument("--fd", type=int, help="descriptor of a socket that is bound already")
    descriptor: int | None = parser.parse_args(argv).fd
    # The server handles both while it runs, and raises them again when it has stopped in good order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        os.umask(PRIVATE_UMASK)
        settings = load_settings()
        set_up_logging(settings.log_level, settings.log_format)
        serve(settings, None if descriptor is None else socket.socket(fileno=descriptor))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _stop(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
