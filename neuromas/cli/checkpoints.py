"""``neuromas checkpoints``: what runs of a server have left behind."""

from __future__ import annotations

from neuromas.cli.console import Console
from neuromas.cli.parser import Arguments
from neuromas.cli.remote import Document, Remote
from neuromas.errors import CheckpointError, Fault, SpecError


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
    assert arguments.out is not None
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
    accuracy = "" if checkpoint["accuracy"] is None else f"accuracy {checkpoint['accuracy']:.3f}"
    aliases = f"({', '.join(checkpoint['aliases'])})" if checkpoint["aliases"] else ""
    place = f"{checkpoint['stage_name']} step {checkpoint['step']}"
    return f"{checkpoint['id']}  {place:<22}{checkpoint['nodes']:>3} nodes  {accuracy:<16}{aliases}".rstrip()
