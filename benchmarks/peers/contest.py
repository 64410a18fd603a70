"""Who is compared, and what is run for each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.figures import Program
from benchmarks.peers.questions import make_work, run_document
from scripts.install import Progress, install_torch, make_venv

OURS = "NeuroMAS"
REQUIREMENTS = Path(__file__).parent / "comlrl.txt"


@dataclass(frozen=True, slots=True)
class Peer:
    """One of those compared.

    Attributes:
        name: as the table calls it.
        program: what to run, from the number of nodes, of steps, a folder of its own and that of the environments.
        nodes: the most nodes it is measured with; None = no limit.
        steps: the most steps that are measured, warm-up apart; None = no limit.
    """

    name: str
    program: Callable[[int, int, Path, Path], Program]
    nodes: int | None = None
    steps: int | None = None


def neuromas(engine: str = "auto") -> Callable[[int, int, Path, Path], Program]:
    """Return the maker of `neuromas train` with an engine."""

    def program(nodes: int, steps: int, folder: Path, _: Path) -> Program:
        spec = folder / "peers.json"
        spec.write_text(json.dumps(run_document(nodes, steps, engine)))
        command = [sys.executable, "-m", "neuromas", "train", str(spec), "--out", str(folder), "--overwrite"]
        return Program(command, folder / "peers/metrics.jsonl", "rollout/prompt_tokens", "rollout/tokens")

    return program


def agents(module: str, *options: str, venv: str | None = None) -> Callable[[int, int, Path, Path], Program]:
    """Return the maker of a module of this package, run by the project's environment or by one that was prepared."""

    def program(nodes: int, steps: int, folder: Path, environments: Path) -> Program:
        make_work(nodes, steps).write(folder / "work.json")
        python = sys.executable if venv is None else str(environments / venv / "bin/python")
        log = folder / "log.jsonl"
        command = [python, "-m", f"benchmarks.peers.{module}", str(folder / "work.json"), str(log), *options]
        return Program(command, log)

    return program


PEERS: Mapping[str, Peer] = {
    "neuromas": Peer(OURS, neuromas()),
    "neuromas-vllm": Peer("NeuroMAS, vLLM engine", neuromas("vllm")),
    "trl": Peer("TRL, a trainer per agent, no checkpointing", agents("trl_agents")),
    "trl-defaults": Peer("TRL, its defaults (checkpointing)", agents("trl_agents", "--checkpointing")),
    "trl-vllm": Peer("TRL, vLLM colocated", agents("trl_agents", "--vllm")),
    "comlrl": Peer("CoMLRL, LoRA", agents("comlrl_agents", venv="comlrl"), nodes=2, steps=2),
}


def prepare(environments: Path) -> None:
    """Make the environments that peers need beside the project's own, from the package index, or complete them."""
    venv = environments / "comlrl"
    make_venv(venv)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
    pins = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    install_torch(Progress(venv / "install.log"), pip, next(pin for pin in pins if pin.startswith("torch==")))
    subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
