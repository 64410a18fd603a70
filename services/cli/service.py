"""``neuromas service``: the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

from neuromas.cli.console import Console
from neuromas.cli.parser import Arguments
from neuromas.services.local import local_service, summary
from neuromas.services.settings import load_settings


def run(arguments: Arguments, console: Console) -> int:
    """Run the command until it is interrupted."""
    settings = load_settings(
        host=arguments.bind_host,
        port=arguments.bind_port,
        data_dir=arguments.data,
        store_url=arguments.store,
        auth="keys" if arguments.with_keys else None,
    )
    with local_service(settings, console.say) as service:
        service.run(lambda: console.show(*summary(service)))
    console.say("stopped")
    return 0
