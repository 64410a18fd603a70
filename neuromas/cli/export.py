"""``neuromas export``: a checkpoint's adapters as stock PEFT LoRA folders, with the graph beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from neuromas.adapters.export import write_peft_folder
from neuromas.adapters.ref import PlainLora
from neuromas.base.resolve import resolve_base
from neuromas.checkpoints.trained import TrainedCheckpoint, find_trained
from neuromas.cli.command import Parser
from neuromas.cli.options import CheckpointOptions, add_checkpoint
from neuromas.display.console import Console
from neuromas.display.status import StatusLine
from neuromas.errors import CheckpointError, writing

EXAMPLES = "export runs/quickstart --out exported"
_UNFINISHED = ".unfinished"
"""Lies in a folder while an export is written into it."""


class Arguments(CheckpointOptions):
    """What the command reads."""

    out: Path


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_checkpoint(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="new folder to write to")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    trained = find_trained(arguments.path)
    with StatusLine(console) as status:
        status.phase(f"exporting {trained.checkpoint}: importing torch, reading and writing adapters")
        folders = export(trained, arguments.out)
    console.show(
        "\n".join([f"{len(folders)} adapters, topology.json and README.md in {arguments.out}", *map(str, folders)]),
        {"out": str(arguments.out), "checkpoint": str(trained.checkpoint), "adapters": [str(path) for path in folders]},
    )
    return 0


def export(trained: TrainedCheckpoint, out: Path) -> list[Path]:
    """Write one folder per adapter, ``topology.json`` and ``README.md``; returns the adapters' folders.

    Raises:
        CheckpointError: ``out`` holds something already.
    """
    _clear_unfinished(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} holds something already; export to a new folder")
    from neuromas.checkpoints.servable import plain_loras

    spec = trained.spec
    return write_export(
        trained, plain_loras(trained.checkpoint, resolve_base(spec.base), spec.adapters, spec.seed), out
    )


def _clear_unfinished(out: Path) -> None:
    """Remove what an export left that was killed."""
    if (out / _UNFINISHED).is_file():
        with writing(out):
            shutil.rmtree(out / "adapters", ignore_errors=True)
            for name in ("topology.json", "README.md", _UNFINISHED):  # the mark is the last
                (out / name).unlink(missing_ok=True)


def write_export(trained: TrainedCheckpoint, loras: Mapping[str, PlainLora], out: Path) -> list[Path]:
    """Write adapters that are plain LoRAs already, and what belongs to them, into an empty folder; loads no torch.

    Raises:
        StorageError: there is no space for them; nothing of them is left.
    """
    folders = [out / "adapters" / name for name in loras]
    with writing(out):
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / _UNFINISHED).touch()
            for folder, lora in zip(folders, loras.values(), strict=True):
                write_peft_folder(lora, trained.spec.base, folder)
            text = json.dumps(trained.topology.to_document(), indent=1, ensure_ascii=False)
            (out / "topology.json").write_text(text + "\n", encoding="utf-8")
            (out / "README.md").write_text(_readme(trained), encoding="utf-8")
            (out / _UNFINISHED).unlink()
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            raise
    return folders


def _readme(trained: TrainedCheckpoint) -> str:
    graph, spec = trained.topology, trained.spec
    rows = [
        f"| {node} | {graph.layer(node)} | {', '.join(graph.predecessors(node)) or '-'} | "
        f"adapters/{graph.adapter_of(node)} |"
        for node in graph.order
    ]
    table = "\n".join(["| node | layer | reads | adapter |", "|---|---|---|---|", *rows])
    return f"""# {spec.name}

A NeuroMAS graph of {len(graph.nodes)} nodes, exported from checkpoint `{trained.checkpoint.name}`.
Every adapter is a plain LoRA (alpha = rank) for the base `{spec.base}`; PEFT and vLLM load it as it is.
The answer is the message of node `{graph.output}`. `topology.json` holds the graph.

{table}

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("<folder of the base>")
node = PeftModel.from_pretrained(base, "adapters/{graph.adapter_of(graph.output)}")
```
"""
