"""The arms of the family evidence: every family of adapters at several sizes, as run specs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = dict[str, Any]

RATES: Final = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
"""Learning rates, in order."""
FIRST_RATES: Final = (1e-2, 3e-2, 1e-1)


@dataclass(frozen=True)
class FamilyStudy:
    """One task, the graph that is trained on it and one model with as many calls a step.

    Attributes:
        task: as in a run spec.
        topology: the graph.
        nodes: its size.
        prompts_per_step: questions of a step; the single model gets ``nodes`` times as many.
        steps: optimizer steps.
    """

    task: Document
    topology: Document
    nodes: int
    prompts_per_step: int
    steps: int


STUDIES: Final[Mapping[str, FamilyStudy]] = {
    "chain": FamilyStudy({"type": "chain", "hops": 3}, {"chain": 3}, nodes=3, prompts_per_step=24, steps=60),
    "tree": FamilyStudy({"type": "tree", "depth": 2}, {"tree": {"depth": 2}}, nodes=3, prompts_per_step=24, steps=60),
}

_GRAPH: Final[Mapping[str, tuple[Document, ...]]] = {
    "unilora": tuple({"dimension": size} for size in (16, 64, 256, 1024)),
    "loft": tuple({"rank": rank} for rank in (2, 4, 8, 16)),
    "ssf": tuple({"channels": count} for count in (1, 4, 16, 32)),
    "hyper": tuple({"dimension": size} for size in (16, 64, 256, 1024)),
    "adamss": tuple({"basis": basis, "segments": segments} for basis, segments in ((1, 1), (8, 4), (32, 8))),
    "lora": tuple({"rank": rank} for rank in (1, 2, 4)),
}
_SINGLE: Final = tuple({"type": "unilora", "dimension": size} for size in (48, 192, 768, 3072))

ARMS: Final[Mapping[str, Document]] = {
    **{
        f"{family}-{'-'.join(map(str, keys.values()))}": {"type": family, **keys}
        for family, sizes in _GRAPH.items()
        for keys in sizes
    },
    **{f"single-{keys['dimension']}": keys for keys in _SINGLE},
}
"""Name -> ``adapter`` section. "single": one node that trains as many numbers as a graph of ``unilora``."""


def arm_spec(study: str, arm: str, rate: float, seed: int) -> Document:
    """Return the run spec of one arm at a learning rate.

    Raises:
        KeyError: the study or the arm does not exist.
    """
    about, alone = STUDIES[study], arm.startswith("single-")
    return {
        "name": f"{study}-{arm}-lr{rate:g}-s{seed}".replace(".", "_").replace("+", ""),
        "seed": seed,
        "topology": {"chain": 1} if alone else about.topology,
        "task": about.task,
        "adapter": ARMS[arm],
        "training": {
            "steps": about.steps,
            "prompts_per_step": about.prompts_per_step * (about.nodes if alone else 1),
            "group_size": 8,
            "learning_rate": rate,
        },
        "evaluation": {"examples": 512},
        "checkpoint": {"every": 0},
        "tracking": {"rollouts_per_sample": 0},
        "engine": {"type": "transformers"},
        "runtime": {"type": "local"},
    }


def next_rate(tried: Mapping[float, float]) -> float | None:
    """Return the learning rate to try next, None when the best one lies between two others that were tried.

    Args:
        tried: rate -> how well it did; of equal ones the one nearest the middle of ``RATES`` counts as the best.
    """
    for rate in FIRST_RATES:
        if rate not in tried:
            return rate
    place = RATES.index(best_rate(tried))
    for neighbour in (place - 1, place + 1):
        if 0 <= neighbour < len(RATES) and RATES[neighbour] not in tried:
            return RATES[neighbour]
    return None


def best_rate(tried: Mapping[float, float]) -> float:
    """Return the rate that did best; of equal ones that nearest the middle of ``RATES``."""
    return max(tried, key=lambda rate: (tried[rate], -abs(2 * RATES.index(rate) - len(RATES) + 1)))
