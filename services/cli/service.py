"""``neuromas service``: the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

from neuromas.cli.command import Parser
from neuromas.cli.console import Console
from neuromas.cli.options import port_number
from neuromas.services.cli.place import PlaceOptions, add_place
from neuromas.services.local import local_service, summary
from neuromas.services.settings import load_settings

EXAMPLES = """service
service --port 0 --data ~/neuromas
service --store redis://127.0.0.1:6379/0"""


class Arguments(PlaceOptions):
    """What the command reads."""

    host: str | None
    port: int | None
    with_keys: bool


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("--host", help="address to bind (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=port_number, help="port (default: 8080; 0 = a free one)")
    parser.add_argument("--with-keys", action="store_true", help="ask for keys on this machine too")
    add_place(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command until it is interrupted."""
    settings = load_settings(
        host=arguments.host,
        port=arguments.port,
        data_dir=arguments.data,
        store_url=arguments.store,
        auth="keys" if arguments.with_keys else None,
    )
    with local_service(settings, console.say) as service:
        service.run(lambda: console.show(*summary(service)))
    console.say("stopped")
    return 0
