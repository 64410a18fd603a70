"""``neuromas adapters``: PEFT adapters on a server, for runs that begin with them."""

from __future__ import annotations

from neuromas.cli.command import Parser, add_verb, add_verbs
from neuromas.cli.options import ServerOptions, add_limit, add_server
from neuromas.cli.remote import Document, Remote
from neuromas.display.console import Console

EXAMPLES = """adapters list
adapters delete mine.n1 mine.n2"""


class Arguments(ServerOptions):
    """What the command reads."""

    verb: str
    names: list[str]


def add(parser: Parser) -> None:
    """Add the arguments."""
    verbs = add_verbs(parser)
    listed = add_verb(verbs, "list", "list adapters by name")
    add_limit(listed)
    delete = add_verb(verbs, "delete", "make room again: runs that have imported them keep what they hold")
    delete.add_argument("names", metavar="NAME", nargs="+", help="of an adapter")
    for each in (listed, delete):
        add_server(each)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    with Remote(arguments.server) as remote:
        if arguments.verb == "list":
            page = remote.get("/v1/adapters", limit=arguments.limit)
            console.show("\n".join(map(_line, page["data"])) or "there are no adapters", page)
        else:
            deleted = [remote.delete(f"/v1/adapters/{name}") for name in arguments.names]
            console.show(f"{', '.join(arguments.names)}: deleted", {"data": deleted})
    return 0


def _line(adapter: Document) -> str:
    missing = f"without {', '.join(adapter['missing'])}" if adapter["missing"] else ""
    return f"{adapter['name']:<31} {adapter['method'] or '-':<8} {adapter['bytes']:>13,} bytes  {missing}".rstrip()
