"""``neuromas checkpoints``: what runs of a server have left behind."""

from __future__ import annotations

from pathlib import Path

from neuromas.cli.command import Parser, add_verb, add_verbs
from neuromas.cli.options import ServerOptions, add_run_id, add_server
from neuromas.cli.remote import Document, Remote
from neuromas.display.console import Console
from neuromas.errors import CheckpointError, Fault, SpecError
from neuromas.report.numbers import percent

EXAMPLES = """checkpoints list RUN
checkpoints export RUN@best --out solver.tar"""


class Arguments(ServerOptions):
    """What the command reads."""

    verb: str
    checkpoint: str
    out: Path


def add(parser: Parser) -> None:
    """Add the arguments."""
    verbs = add_verbs(parser)
    listed = add_verb(verbs, "list", "list a run's checkpoints, newest first")
    add_run_id(listed)
    export = add_verb(verbs, "export", "get a checkpoint's adapters as stock PEFT folders")
    export.add_argument("checkpoint", metavar="CHECKPOINT", help="its id, RUN@latest or RUN@best")
    export.add_argument("--out", metavar="FILE", type=Path, required=True, help="new file; .tar or .zip")
    for each in (listed, export):
        add_server(each)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    with Remote(arguments.server) as remote:
        if arguments.verb == "list":
            page = remote.get(f"/v1/runs/{arguments.id}/checkpoints", limit=100)
            console.show("\n".join(map(_line, page["data"])) or "there are no checkpoints yet", page)
        else:
            console.show(*_export(remote, arguments))
    return 0


def _export(remote: Remote, arguments: Arguments) -> tuple[str, Document]:
    form = arguments.out.suffix.removeprefix(".")
    if form not in ("tar", "zip"):
        message = f"got {arguments.out.name}; expected a file that ends in .tar or .zip"
        raise SpecError("the archive cannot be written", [Fault("--out", message)])
    if arguments.out.exists():
        raise CheckpointError(f"{arguments.out} exists already; name a new file with --out")
    id = _find(remote, arguments.checkpoint)
    size = remote.download(f"/v1/checkpoints/{id}/export", arguments.out, format=form)
    return f"{arguments.out} ({size:,} bytes)", {"out": str(arguments.out), "checkpoint": id, "bytes": size}


def _find(remote: Remote, reference: str) -> str:
    """Return the id of a checkpoint that is named by its id or within its run."""
    run_id, at, name = reference.rpartition("@")
    return str(remote.get(f"/v1/runs/{run_id}/checkpoints/{name}")["id"]) if at else name


def _line(checkpoint: Document) -> str:
    accuracy = "" if checkpoint["accuracy"] is None else f"accuracy {percent(checkpoint['accuracy'])}"
    aliases = f"({', '.join(checkpoint['aliases'])})" if checkpoint["aliases"] else ""
    place = f"{checkpoint['stage_name']} step {checkpoint['step']}"
    return f"{checkpoint['id']}  {place:<21} {checkpoint['nodes']:>3} nodes  {accuracy:<16} {aliases}".rstrip()
