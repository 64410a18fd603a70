"""``neuromas service``: the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

from neuromas.cli.command import Parser
from neuromas.cli.options import port_number
from neuromas.display.console import Console
from neuromas.services.cli.store_options import StoreOptions, add_store_options
from neuromas.services.local import local_service, summary
from neuromas.services.settings import SettingsError, load_settings

EXAMPLES = """service
service --port 0 --data ~/neuromas
service --tasks ~/questions --bases ~/models
service --store redis://127.0.0.1:6379/0"""


class Arguments(StoreOptions):
    """What the command reads."""

    host: str | None
    port: int | None
    with_keys: bool
    tasks: list[Path] | None
    bases: list[Path] | None


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("--host", help="address to bind (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=port_number, help="port (default: 8080; 0 = a free one)")
    parser.add_argument("--with-keys", action="store_true", help="ask for keys on this machine too")
    parser.add_argument(
        "--tasks", metavar="DIR", type=Path, action="append", help="let runs read files of examples below DIR"
    )
    parser.add_argument("--bases", metavar="DIR", type=Path, action="append", help="let runs use base models below DIR")
    add_store_options(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command until it is interrupted."""
    settings = load_settings(
        host=arguments.host,
        port=arguments.port,
        data_dir=arguments.data,
        store_url=arguments.store,
        task_roots=_folders("--tasks", arguments.tasks),
        base_roots=_folders("--bases", arguments.bases),
        auth="keys" if arguments.with_keys else None,
    )
    with local_service(settings, console.say) as service:
        service.run(lambda: console.show(*summary(service)))
    console.say("stopped")
    return 0


def _folders(option: str, given: list[Path] | None) -> tuple[Path, ...] | None:
    """Return the folders of an option.

    Raises:
        SettingsError: one is not there.
    """
    for folder in given or ():
        if not folder.expanduser().is_dir():
            raise SettingsError(f"{option}: got {folder}; allowed is a folder that is there")
    return tuple(given) if given else None
