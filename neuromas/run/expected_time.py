"""How long a run will take on CPUs, counted from its spec, its prompts and one product timed here. Loads no torch.

Two things take the time: products of activations and weights, at the rate that this processor was just seen to reach,
and what every call costs beside them, whose seconds were measured. What nobody knows before a run is taken as its most:
every message has the length of its budget, every group learns, and triggers end no stage early.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any, Final

from neuromas.base.sizes import read_sizes
from neuromas.cluster.threads import engine_share, learner_share, processors, single_share
from neuromas.report.numbers import duration
from neuromas.run.load import Load, graph_load
from neuromas.run.preflight import Preflight
from neuromas.spec.run import RunSpec
from neuromas.tasks.held_out import HeldOutPart, part_sizes
from neuromas.topology.graph import Topology

_START_S: Final = 20.0
"""From the command to the first step, and closing."""
_CALL_S: Final = 9e-4
"""What a call costs an engine beside its products: scheduling, sampling, texts. Of one thread."""
_EFFICIENCY: Final = 0.7
"""Of the measured rate, what the products of a model reach, with all that lies between them."""
_MEASUREMENTS: Final = 32
_SIDE: Final = 64
_STACK: Final = 128
"""Products so small that numpy's library does not spread them over threads, and many of them, so that little else
counts."""


@dataclass(frozen=True, slots=True)
class ExpectedTime:
    """The seconds of a run, by what takes them, and what they rest on.

    Attributes:
        steps: optimizer steps of all stages, at most.
        sampling_s: of the rollouts of all steps.
        update_s: of all updates.
        evaluation_s: of the evaluations of stages and result, and of the checks of triggers.
        threads: that sample and that learn, in all processes together.
        operations_per_s: that one thread was seen to reach.
        overlap: whether sampling and updates go on side by side.
        is_most: whether a trigger may end stages earlier.
    """

    steps: int
    sampling_s: float
    update_s: float
    evaluation_s: float
    threads: tuple[int, int]
    operations_per_s: float
    overlap: bool
    is_most: bool

    @property
    def seconds(self) -> float:
        """From the command to the result."""
        work = (self.sampling_s, self.update_s)
        return _START_S + (max(work) if self.overlap else sum(work)) + self.evaluation_s

    @property
    def text(self) -> str:
        """The whole time as people read it."""
        return f"{'at most ' if self.is_most else ''}about {duration(self.seconds)}, half to twice of it"

    @property
    def counted_for(self) -> str:
        """What the seconds rest on."""
        sampling, learning = self.threads
        return (
            f"idle cores ({sampling} sampling, {learning} learning) of {self.operations_per_s / 1e9:.0f} GFLOP/s, "
            "full messages"
        )

    def to_document(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "seconds": round(self.seconds, 1),
            "is_most": self.is_most,
            "sampling_s": round(self.sampling_s, 1),
            "update_s": round(self.update_s, 1),
            "evaluation_s": round(self.evaluation_s, 1),
            "sampling_threads": self.threads[0],
            "learning_threads": self.threads[1],
            "operations_per_s": self.operations_per_s,
            "text": self.text,
            "counted_for": self.counted_for,
        }


def expected_time(preflight: Preflight, rate: float | None = None) -> ExpectedTime | None:
    """Return how long a checked run takes on this machine, if it has it for itself.

    Args:
        preflight: of the run.
        rate: operations that one thread does in a second; None = timed here.

    Returns:
        None for GPUs, and where the base's files do not say how large it is.
    """
    spec = preflight.spec
    sizes = read_sizes(preflight.base.folder, spec.adapters.targets)
    base = None if sizes is None else sizes.dimensions
    if base is None or spec.runtime.gpus_per_learner or spec.runtime.gpus_per_rollout_worker:
        return None
    threads, rate = _threads(spec), operations_per_s() if rate is None else rate
    reached = _EFFICIENCY * rate
    training, update, evaluation, steps = Load(), Load(), Load(), 0
    for graph, level, length in _stages(preflight):
        load = graph_load(preflight, base, graph, level)
        steps += length
        training += load.sampling.times(length * spec.training.prompts_per_step)
        update += load.update.times(length * spec.training.prompts_per_step)
        evaluation += load.answer.times(_answers(preflight, length, level))
    last = graph_load(preflight, base, preflight.graphs[-1], None)
    evaluation += last.answer.times((4 + spec.evaluation.votes) * _questions(preflight, "test", None))
    return ExpectedTime(
        steps=steps,
        sampling_s=_sampling_s(training, reached, threads[0]),
        update_s=update.operations / (reached * threads[1]),
        evaluation_s=_sampling_s(evaluation, reached, threads[0]),
        threads=threads,
        operations_per_s=rate,
        overlap=bool(spec.training.overlap),
        is_most=spec.growth is not None and spec.growth.trigger.type != "steps",
    )


@cache
def operations_per_s() -> float:
    """Return the multiplications and additions of float32 numbers that one thread does in a second, here.

    The median of a few looks, in seconds of this thread, so that other programs count little. It takes a tenth of one.
    """
    import numpy as np

    left, right = np.ones((2, _STACK, _SIDE, _SIDE), dtype=np.float32)
    out, seconds = np.empty_like(left), list[float]()
    for _ in range(_MEASUREMENTS):
        began = time.thread_time()
        np.matmul(left, right, out=out)
        seconds.append(time.thread_time() - began)
    return 2.0 * _STACK * _SIDE**3 / median(seconds)


def _sampling_s(load: Load, rate: float, threads: int) -> float:
    """Return how long an engine takes; what a call costs beside its products is one thread's work."""
    return load.calls * _CALL_S + load.operations / (rate * threads)


def _threads(spec: RunSpec) -> tuple[int, int]:
    """Return the threads that sample and those that learn, no more than this machine has processors."""
    if spec.runtime.type == "local":
        return (min(processors(), single_share(spec).count()),) * 2
    workers, learners = spec.runtime.rollout_workers, spec.runtime.learner_workers
    found = workers * engine_share(spec).count(), learners * learner_share(spec).count()
    return min(processors(), found[0]), min(processors(), found[1])


def _stages(preflight: Preflight) -> list[tuple[Topology, int | None, int]]:
    """Return graph, level and most steps of each stage; of trials the largest graph for all of their steps."""
    spec, growth, graphs = preflight.spec, preflight.spec.growth, preflight.graphs
    if growth is None:
        return [(graphs[0], None, spec.training.steps)]
    if growth.trial is not None or not growth.levels:
        largest = max(graphs, key=lambda graph: len(graph.nodes))
        return [(largest, growth.levels[-1] if growth.levels else None, spec.training.steps)]
    left, stages = spec.training.steps, list[tuple[Topology, int | None, int]]()
    for number, level in enumerate(growth.levels):
        is_last, graph = number == len(growth.levels) - 1, graphs[min(number, len(graphs) - 1)]
        if growth.steps_per_level:
            steps = growth.steps_per_level[number]
        elif growth.final_steps is not None:
            steps = growth.final_steps if is_last else growth.max_steps_per_level
        else:
            steps = left if is_last else min(growth.max_steps_per_level, left)
        left -= steps
        stages.append((graph, level, steps))
    return stages


def _answers(preflight: Preflight, steps: int, level: int | None) -> float:
    """Return the answers that a stage is asked for: greedy and sampled at its end and in between, and in checks."""
    spec = preflight.spec
    every, trigger = spec.evaluation.every, None if spec.growth is None else spec.growth.trigger
    rounds = 1 + (max(0, steps - 1) // every if every else 0)
    checks = 0 if trigger is None or trigger.type == "steps" else steps // trigger.every * trigger.examples
    return 2 * rounds * _questions(preflight, "validation", level) + checks


def _questions(preflight: Preflight, part: HeldOutPart, level: int | None) -> int:
    """Return how many questions an evaluation asks."""
    sizes = part_sizes(preflight.task, level)
    examples = preflight.spec.evaluation.examples
    return examples if sizes is None else min(examples, sizes[part])
