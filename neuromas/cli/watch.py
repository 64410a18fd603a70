"""``neuromas watch``: a run of a server, with the display of ``neuromas train``."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from neuromas.cli.command import Parser
from neuromas.cli.options import ServerOptions, add_run_id, add_server
from neuromas.cli.remote import Document, Remote
from neuromas.display.console import Console
from neuromas.display.training import TrainingDisplay
from neuromas.journal.events import (
    CheckpointWritten,
    Evaluated,
    Event,
    Notice,
    RunStarted,
    StageEnded,
    StageStarted,
    StepDone,
)
from neuromas.report.numbers import percent

_KINDS: Final = {
    kind.type: kind for kind in (CheckpointWritten, Evaluated, Notice, RunStarted, StageEnded, StageStarted, StepDone)
}
_EXIT_CODES: Final = {"succeeded": 0, "cancelled": 130}

EXAMPLES = """watch run_0123456789abcdef
watch RUN --nodes --server http://127.0.0.1:8080"""


class Arguments(ServerOptions):
    """What the command reads."""

    nodes: bool


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_run_id(parser)
    parser.add_argument("--nodes", action="store_true", help="show a line per node with every step shown")
    add_server(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    with Remote(arguments.server) as remote:
        return follow(remote, arguments.id, console, show_nodes=arguments.nodes)


def follow(remote: Remote, run_id: str, console: Console, *, show_nodes: bool = False) -> int:
    """Show a run until it has ended, then its record; returns the exit code: 0 where it succeeded."""
    found = remote.get(f"/v1/runs/{run_id}")
    with TrainingDisplay(console, show_nodes=show_nodes) as display:
        for document in remote.events(run_id):
            match document["type"]:
                case "state":
                    console.say(_state(document))
                case "driver_lost":
                    console.warn(document["message"])
                case _:
                    if (event := event_of(document)) is not None:
                        display(event)
    found = remote.get(f"/v1/runs/{run_id}")
    console.show(_end(found), found)
    return _EXIT_CODES.get(found["state"], 1)


def event_of(document: Document) -> Event | None:
    """Return the event that a document of a run's stream tells; None for one that no display needs."""
    kind = _KINDS.get(document["type"])
    if kind is None:
        return None
    return kind(**{field.name: document[field.name] for field in fields(kind) if field.name in document})


def _state(document: Document) -> str:
    attempt = f", attempt {document['attempt'] + 1}" if document.get("attempt") else ""
    reason = f": {document['message']}" if document.get("message") else ""
    return f"{document['state']}{attempt}{reason}"


def _end(run: Document) -> str:
    if run["error"]:
        return f"{run['id']} {run['state']}: {run['error']['message']}"
    accuracy = "" if run["accuracy"] is None else f", accuracy {percent(run['accuracy'])}"
    return f"{run['id']} {run['state']}{accuracy}"
