"""Steps that overlap against steps in sequence on the Ray runtime, where learner and rollout worker are processes.

With ``training.overlap = 1`` the next step's rollouts are sampled while this step's are trained on, so they come from
weights one version older. The run is the quickstart: a chain of 5 Nodes on the shipped base.

"speed": both modes have a runtime of their own, started once; stages of a few steps take turns between the two. A step
lasts from the end of the step before to its own end, wall clock, as its rollouts are another process's work. The ratio
is formed per turn, of the two medians. "learning": a whole run of each mode and seed; what it reached in as many steps.

    python -m benchmarks.overlap [--turns 5] [--steps 20] [--json FOLDER]
    python -m benchmarks.overlap --learning [--seeds 0 1 2] [--steps 60] [--json FOLDER]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.measure import Cell, ratio, report
from neuromas.checkpoints.trained import find_trained
from neuromas.cluster.connection import RayConnection
from neuromas.cluster.runtime import Runtime, RuntimeSetup, open_runtime
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal.events import Event, StepDone
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.spec.run import RunSpec
from neuromas.studies.demo import example

MODES = {"in sequence": 0, "overlapped": 1}
WARMUP = 3  # steps of a stage that are not measured
PARTS = {"waiting_s": "rollout_s", "sync_s": "sync_s", "plan_s": "plan_s"}  # the rest is the update
CURVE_PARTS = 6
LEARNED = 0.9  # mean reward of a step


class Lane:
    """A runtime of one mode and seed, and the steps it reports."""

    def __init__(self, overlap: int, seed: int, steps: int, examples: int, folder: Path) -> None:
        self.spec = make_spec(overlap, seed, steps, examples)
        self.steps: list[StepDone] = []
        preflight = check_run(self.spec, find_trained)
        folder.mkdir(parents=True)
        setup = RuntimeSetup(self.spec, folder, worker_setup(self.spec, preflight))
        self._runtime: Runtime = open_runtime(setup, self._note)
        self._stages = 0

    def train(self) -> StageOutcome:
        """Train a stage from new adapters; its steps replace those of the stage before."""
        self.steps.clear()
        plan = Stage(f"turn{self._stages}", self._stages, self.spec.topology, self.spec.training.steps)
        self._stages += 1
        return self._runtime.train_stage(plan)

    def step_seconds(self) -> list[float]:
        """Return the wall seconds of the last stage's steps after the warm-up."""
        ends = [step.time_s for step in self.steps[WARMUP - 1 :]]
        return [end - begin for begin, end in pairwise(ends)]

    def part(self, name: str) -> float:
        """Return the median over the same steps of a part that the learner measures, in seconds."""
        return statistics.median(step.metrics[f"time/{name}"] for step in self.steps[WARMUP:])

    def close(self) -> None:
        """End the runtime's processes."""
        self._runtime.close()

    def _note(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.steps.append(event)


def make_spec(overlap: int, seed: int, steps: int, examples: int) -> RunSpec:
    spec = example("quickstart")
    training = spec.training.model_copy(update={"steps": steps, "overlap": overlap})
    evaluation = spec.evaluation.model_copy(update={"examples": examples})
    name = f"overlap{overlap}-s{seed}"
    return spec.model_copy(update={"name": name, "seed": seed, "training": training, "evaluation": evaluation})


def speed(turns: int, steps: int, folder: Path) -> list[dict[str, Cell]]:
    lanes = {mode: Lane(overlap, 0, steps, 1, folder / mode) for mode, overlap in MODES.items()}
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    medians: dict[str, list[float]] = {mode: [] for mode in MODES}
    parts: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for turn in range(turns):
        for mode in MODES if turn % 2 == 0 else reversed(MODES):
            lane = lanes[mode]
            lane.train()
            seconds[mode] += lane.step_seconds()
            medians[mode].append(statistics.median(lane.step_seconds()))
            parts[mode].append({name: lane.part(name) for name in PARTS.values()})
    for lane in lanes.values():
        lane.close()
    baseline = medians["in sequence"]
    return [_speed_row(mode, seconds[mode], ratio(baseline, medians[mode]), parts[mode]) for mode in MODES]


def _speed_row(
    mode: str, seconds: list[float], faster: tuple[float, float, float], parts: list[dict[str, float]]
) -> dict[str, Cell]:
    low, middle, high = statistics.quantiles(seconds, n=4)
    shares = {name: statistics.median(part[key] for part in parts) for name, key in PARTS.items()}
    return {
        "mode": mode,
        "steps": len(seconds),
        "step_s": middle,
        "quartile 1": low,
        "quartile 3": high,
        **shares,
        "times faster": faster[0],
        "low": faster[1],
        "high": faster[2],
    }


def learning(seeds: Sequence[int], steps: int, examples: int, folder: Path) -> list[dict[str, Cell]]:
    rows = []
    for number, seed in enumerate(seeds):
        for mode in MODES if number % 2 == 0 else reversed(MODES):
            lane = Lane(MODES[mode], seed, steps, examples, folder / f"{mode} {seed}")
            result = lane.train()
            rows.append(_learning_row(mode, seed, result, lane.steps))
            lane.close()
    return sorted(rows, key=lambda row: (row["mode"], row["seed"]))


def _learning_row(mode: str, seed: int, result: StageOutcome, steps: Sequence[StepDone]) -> dict[str, Cell]:
    rewards = [step.metrics["rollout/reward_mean"] for step in steps]
    bounds = [len(rewards) * part // CURVE_PARTS for part in range(CURVE_PARTS + 1)]
    curve: dict[str, Cell] = {
        f"reward {first + 1}-{end}": statistics.fmean(rewards[first:end]) for first, end in pairwise(bounds)
    }
    reached = [number for number, reward in enumerate(rewards, 1) if reward >= LEARNED]
    return {
        "mode": mode,
        "seed": seed,
        "steps": len(rewards),
        f"first at {LEARNED}": reached[0] if reached else "never",
        "greedy": result.accuracy,
        "sampled": result.sampled_accuracy,
        **curve,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learning", action="store_true", help="compare what is learned instead of the speed")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of a turn (default 20), or of a run that learns (default 60)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--examples", type=int, default=512, help="held-out examples of the final accuracy")
    parser.add_argument("--json", type=Path, help="folder for overlap_speed.json or overlap_learning.json")
    arguments = parser.parse_args()
    if arguments.json is not None:
        arguments.json.mkdir(parents=True, exist_ok=True)
    cluster = RayConnection(None, min_cpus=4)  # two runtimes of two actors, of which one works at a time
    with tempfile.TemporaryDirectory() as name:
        if arguments.learning:
            rows = learning(arguments.seeds, arguments.steps or 60, arguments.examples, Path(name))
            title, file = "accuracy and mean rewards after as many steps", "overlap_learning.json"
        else:
            rows = speed(arguments.turns, arguments.steps or 20, Path(name))
            title, file = (
                "wall seconds of a step, rollouts in a process of their own",
                "overlap_speed.json",
            )
        report(title, rows, arguments.json and arguments.json / file)
    cluster.close()


if __name__ == "__main__":
    main()
