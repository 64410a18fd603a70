"""Which store a command of the service works on."""

from __future__ import annotations

from pathlib import Path

from neuromas.cli.command import Options, Parser


class StoreOptions(Options):
    """The data folder and the store."""

    data: Path | None
    store: str | None


def add_store_options(parser: Parser) -> None:
    """Add them."""
    parser.add_argument("--data", metavar="DIR", type=Path, help="folder of runs and store (default: neuromas-data)")
    parser.add_argument("--store", metavar="URL", help="sqlite (default) or redis://host:port/0")
