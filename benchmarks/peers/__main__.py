"""Whole optimizer steps of a chain of nodes by NeuroMAS and by what a user would run instead.

    python -m benchmarks.peers --prepare
    python -m benchmarks.peers [--nodes 1 2 5 7] [--rounds 3] [--out runs/peers] [--publish] [--wall]

Each peer is a process of its own, in its own environment, with one thread for each library; all take turns, and every
second round runs in reverse order. All have the shipped base, 24 questions x 8 a step, messages of at most 8 tokens and
a LoRA of rank 1 for each agent. `neuromas train` runs as by default (Ray, its actors and servers included), but that
groups without a gradient are trained on as well. Agents of the others read what the nodes do, with true messages.
Measured are steps after the first ones, from outside: user and system seconds of all processes, and the most memory
they held, from their start on. Called again it goes on where it was broken off; who has failed is not tried again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import machine
from benchmarks.pages import replace_table
from benchmarks.peers.contest import PEERS, prepare
from benchmarks.peers.figures import measure
from benchmarks.peers.table import Record, caption, markdown

PAGE = Path(__file__).resolve().parents[2] / "docs/benchmarks.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare, or measure and print; returns the exit code."""
    options = _parser().parse_args(argv)
    environments = options.out / "environments"
    if options.prepare:
        prepare(environments)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    for turn in range(options.rounds):
        for nodes in options.nodes:
            for key in options.peers if turn % 2 == 0 else reversed(options.peers):
                take_turn(key, nodes, turn, options, environments.absolute())
    found = [
        options.out / file_name(key, nodes, turn)
        for nodes in options.nodes
        for key in options.peers
        for turn in range(options.rounds)
    ]
    records = [Record.read(file) for file in found if file.is_file()]
    text = f"{caption(records)}\n\n{markdown(records, options.wall)}"
    print(text)
    if options.publish:
        replace_table(PAGE, "peers", text)
    return 0


def take_turn(key: str, nodes: int, turn: int, options: argparse.Namespace, environments: Path) -> None:
    """Measure one peer once, unless that is done, it has failed with as many nodes, or is not measured with so many."""
    peer, file = PEERS[key], options.out / file_name(key, nodes, turn)
    earlier = [options.out / file_name(key, nodes, before) for before in range(turn)]
    failed = any(Record.read(record).figures is None for record in earlier if record.is_file())
    if file.is_file() or failed or (peer.nodes is not None and nodes > peer.nodes):
        return
    steps = options.steps if peer.steps is None else min(peer.steps, options.steps)
    folder = options.out / "work" / file.stem
    folder.mkdir(parents=True, exist_ok=True)
    program = peer.program(nodes, options.warmup + steps + 1, folder, environments)
    try:
        found = measure(program, options.warmup, steps, folder / "output.txt")
        record = Record(turn, nodes, peer.name, found, steps=steps, machine=machine() | {"threads": 1})
    except RuntimeError as error:
        record = Record(turn, nodes, peer.name, None, error=str(error))
    record.write(file)
    print(f"round {turn}, {nodes} nodes, {peer.name}: {record.figures or record.error}", flush=True)


def file_name(key: str, nodes: int, turn: int) -> str:
    return f"{key}-{nodes}-{turn}.json"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", help="make the environments, measure nothing")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 5, 7])
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=3, help="steps before those measured")
    parser.add_argument("--steps", type=int, default=8, help="steps measured of each peer in each round")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"), help="folder of records and environments")
    parser.add_argument("--wall", action="store_true", help="show wall seconds, too")
    parser.add_argument("--publish", action="store_true", help="write the table into docs/benchmarks.md")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
