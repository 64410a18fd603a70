"""``neuromas endpoints``: checkpoints that a server answers with."""

from __future__ import annotations

import time
from typing import Final

from neuromas.cli.command import Parser, add_verb, add_verbs
from neuromas.cli.options import ServerOptions, add_limit, add_server
from neuromas.cli.remote import Document, Remote, ServerFailedError
from neuromas.display.console import Console
from neuromas.display.status import StatusLine

_POLL_S: Final = 0.5

EXAMPLES = """endpoints deploy solver RUN@best --wait
endpoints swap solver RUN@latest
endpoints delete solver"""


class Arguments(ServerOptions):
    """What the command reads."""

    verb: str
    name: str
    checkpoint: str
    replicas: int | None
    max_replicas: int | None
    wait: bool


def add(parser: Parser) -> None:
    """Add the arguments."""
    verbs = add_verbs(parser)
    deploy = add_verb(verbs, "deploy", "serve a checkpoint under a name")
    swap = add_verb(verbs, "swap", "give an endpoint another checkpoint; no request fails")
    delete = add_verb(verbs, "delete", "stop an endpoint")
    listed = add_verb(verbs, "list", "list endpoints")
    add_limit(listed)
    for each in (deploy, swap, delete):
        each.add_argument("name", metavar="NAME", help="of the endpoint: what clients ask for as model")
    for each in (deploy, swap):
        each.add_argument("checkpoint", metavar="CHECKPOINT", help="its id, RUN@latest or RUN@best")
    deploy.add_argument("--replicas", metavar="N", type=int, help="copies that answer (default: the server's)")
    deploy.add_argument("--max-replicas", metavar="N", type=int, help="copies that a high load may add up to")
    for each in (deploy, swap, delete):
        each.add_argument("--wait", action="store_true", help="return when it is so")
    for each in (deploy, swap, delete, listed):
        add_server(each)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    with Remote(arguments.server) as remote:
        if arguments.verb == "list":
            page = remote.get("/v1/endpoints", limit=arguments.limit)
            console.show("\n".join(map(_line, page["data"])) or "there are no endpoints", page)
            return 0
        endpoint = _change(remote, arguments)
        if arguments.wait:
            with StatusLine(console) as status:
                endpoint = _settled(remote, endpoint, status)
        console.show(_line(endpoint), endpoint)
    return 0


def _change(remote: Remote, arguments: Arguments) -> Document:
    name = arguments.name
    match arguments.verb:
        case "deploy":
            sizes = {"replicas": arguments.replicas, "max_replicas": arguments.max_replicas}
            return remote.post("/v1/endpoints", {"name": name, "checkpoint": arguments.checkpoint, **sizes})
        case "swap":
            return remote.patch(f"/v1/endpoints/{name}", {"checkpoint": arguments.checkpoint})
        case _:
            return remote.delete(f"/v1/endpoints/{name}")


def _settled(remote: Remote, endpoint: Document, status: StatusLine) -> Document:
    """Return an endpoint once it is as it is wanted to be.

    Raises:
        ServerFailedError: it failed, or the swap did.
    """
    shown = ""
    while not _is_as_wanted(endpoint):
        if (state := f"endpoint {endpoint['name']} is {_state(endpoint)}") != shown:
            status.phase(state)
            shown = state
        has_failed_swap = endpoint["wanted"] == "run" and endpoint["error"] is not None
        if endpoint["state"] == "failed" or has_failed_swap:
            error = endpoint["error"] or {"code": "failed", "message": "it does not say why"}
            raise ServerFailedError(f"endpoint {endpoint['name']} failed: {error['message']}", error["code"])
        time.sleep(_POLL_S)
        endpoint = remote.get(f"/v1/endpoints/{endpoint['id']}")
    return endpoint


def _is_as_wanted(endpoint: Document) -> bool:
    if endpoint["wanted"] == "stop":
        return bool(endpoint["state"] == "stopped")
    return bool(endpoint["state"] == "ready" and not _is_being_swapped(endpoint))


def _is_being_swapped(endpoint: Document) -> bool:
    """Whether the checkpoint that answers is still an earlier one."""
    return bool(endpoint["state"] == "ready" and endpoint["served"] != endpoint["generation"])


def _line(endpoint: Document) -> str:
    copies = f"{endpoint['replicas']} replicas" if endpoint["replicas"] != 1 else "1 replica"
    return f"{endpoint['name']:<23} {_state(endpoint):<10} {copies:<11} {endpoint['checkpoint']} of {endpoint['run']}"


def _state(endpoint: Document) -> str:
    """Return what an endpoint is about, where that is more than its state says."""
    if endpoint["wanted"] == "stop" and endpoint["state"] not in ("stopped", "failed"):
        return "stopping"
    return "swapping" if _is_being_swapped(endpoint) and endpoint["error"] is None else str(endpoint["state"])
