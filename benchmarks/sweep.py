"""Arms of a study at swept learning rates over seeds: what is missing is run, finished runs are lines of a file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rates import best_rate
from benchmarks.training_run import train

Document = dict[str, Any]
RECORDS_FILE = "records.jsonl"


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        name: of the study.
        arms: names of what is compared, in order.
        spec: (arm, learning rate, seed) -> run spec.
        next_rate: (arm, rate -> accuracy on validation questions) -> the rate to try next, None when one is chosen.
    """

    name: str
    arms: Sequence[str]
    spec: Callable[[str, float, int], Document]
    next_rate: Callable[[str, Mapping[float, float]], float | None]


def run_missing(studies: Sequence[Study], seeds: Sequence[int], out: Path) -> int:
    """Sweep the rates of all arms on the first seed, then run the other seeds at the best; returns how many failed."""
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for run in (_sweep, _repeat):
        for study in studies:
            for arm in study.arms:
                failed += not run(study, arm, seeds, out)
    return failed


def read_records(out: Path) -> list[Document]:
    """Return the finished runs of a folder; none where there is no file."""
    path = out / RECORDS_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def listed(records: Sequence[Document]) -> str:
    """Return runs as a JSON list, one a line."""
    rows = ",\n".join(json.dumps(record) for record in records)
    return f"[\n{rows}\n]\n"


def tried_rates(records: Sequence[Document], study: str, arm: str) -> dict[float, float]:
    """Return the rates that were swept on an arm's first seed, with what each reached on validation questions."""
    own = _runs(records, study, arm)
    return {row["rate"]: row["validation"] for row in own if row["seed"] == own[0]["seed"]}


def chosen(records: Sequence[Document], study: str, arm: str) -> list[Document]:
    """Return an arm's runs at its best learning rate, one a seed."""
    own = _runs(records, study, arm)
    if not own:
        return []
    rate = best_rate(tried_rates(records, study, arm))
    return sorted((row for row in own if row["rate"] == rate), key=lambda row: int(row["seed"]))


def spread(values: Sequence[float]) -> str:
    """Return the mean of some shares in percent, and of several the lowest and highest."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def _runs(records: Sequence[Document], study: str, arm: str) -> list[Document]:
    return [row for row in records if (row["study"], row["arm"]) == (study, arm)]


def _sweep(study: Study, arm: str, seeds: Sequence[int], out: Path) -> bool:
    while (rate := study.next_rate(arm, _tried(study, arm, seeds[0], out))) is not None:
        if not _run(study, arm, rate, seeds[0], out):
            return False
    return True


def _repeat(study: Study, arm: str, seeds: Sequence[int], out: Path) -> bool:
    tried = _tried(study, arm, seeds[0], out)
    if not tried:
        return False
    rate = best_rate(tried)
    missing = [seed for seed in seeds if rate not in _tried(study, arm, seed, out)]
    done = [_run(study, arm, rate, seed, out) for seed in missing]  # all of them, though one fails
    return all(done)


def _tried(study: Study, arm: str, seed: int, out: Path) -> dict[float, float]:
    own = _runs(read_records(out), study.name, arm)
    return {row["rate"]: row["validation"] for row in own if row["seed"] == seed}


def _run(study: Study, arm: str, rate: float, seed: int, out: Path) -> bool:
    spec = study.spec(arm, rate, seed)
    result = train(spec, out)
    if result is None:
        return False
    record = {
        "study": study.name,
        "arm": arm,
        "rate": rate,
        "seed": seed,
        "trained": result["trainable_parameters"],
        "nodes": len(result["topology"]["nodes"]),
        "validation": result["stages"][-1]["sampled_accuracy"],
        "greedy": result["accuracy"]["greedy"]["value"],
        "sampled": result["accuracy"]["sampled"]["value"],
        "rewards": rewards(out / "runs" / spec["name"] / "metrics.jsonl"),
        "calls": result["spending"]["calls"],
        "seconds": result["seconds"]["total"],
        "versions": result["versions"],
    }
    with (out / RECORDS_FILE).open("a") as records:
        records.write(json.dumps(record) + "\n")
    print(f"{study.name} {arm} rate {rate:g} seed {seed}: sampled {record['sampled']:.3f}", flush=True)
    return True


def rewards(metrics: Path) -> list[list[float]]:
    """Return the mean reward of the rollouts of each step, before that step's update, by stage."""
    found: dict[int, list[float]] = {}
    for line in metrics.read_text().splitlines():
        row = json.loads(line)
        if "rollout/reward_mean" in row:
            found.setdefault(row["stage"], []).append(round(row["rollout/reward_mean"], 4))
    return list(found.values())
