"""The arms of the family evidence: every family of adapters at several sizes, as run specs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = dict[str, Any]


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
_OTHERS: Final[Mapping[str, Document]] = {
    **{f"single-{size}": {"type": "unilora", "dimension": size} for size in (48, 192, 768)},
    "single-3072": {"type": "unilora", "dimension": 3072, "rank": 2},
    "shared-192": {"type": "unilora", "dimension": 192},
    "hyper_h1-64": {"type": "hyper", "dimension": 64, "hidden": 1},
}

ARMS: Final[Mapping[str, Document]] = {
    **{
        f"{family}-{'-'.join(map(str, keys.values()))}": {"type": family, **keys}
        for family, sizes in _GRAPH.items()
        for keys in sizes
    },
    **_OTHERS,
}
"""Name -> ``adapter`` section. "single": one node that trains as many numbers as a graph of ``unilora``; the pairs
of rank 1 on the shipped base have no place for 3,072. "shared": the
graph with one adapter for all nodes, of as many numbers as three of "unilora-64". "hyper_h1": a network that is narrow
enough to train fewer numbers than three vectors."""


def arm_spec(study: str, arm: str, rate: float, seed: int) -> Document:
    """Return the run spec of one arm at a learning rate.

    Raises:
        KeyError: the study or the arm does not exist.
    """
    about, alone = STUDIES[study], arm.startswith("single-")
    topology = about.topology | ({"adapter": "shared"} if arm.startswith("shared-") else {})
    return {
        "name": f"{study}-{arm}-lr{rate:g}-s{seed}".replace(".", "_").replace("+", ""),
        "seed": seed,
        "topology": {"chain": 1} if alone else topology,
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
