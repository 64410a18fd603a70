"""The arms of the evidence on starts: what new adapters begin with, in a new graph and in a grown one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = dict[str, Any]


@dataclass(frozen=True)
class StartArm:
    """One start.

    Attributes:
        adapter: section of a run spec.
        rates: learning rates that are tried.
        new: what a node that is added starts from, as in ``inherit.new``.
    """

    adapter: Document
    rates: tuple[float, ...]
    new: str = "fresh"


@dataclass(frozen=True)
class StartStudy:
    """Starts of one family on chains of three hops, or of a node that makes four of three.

    Attributes:
        arms: by name.
        stages: steps of each stage; a second stage adds a node and a hop.
        windows: (first, last) step of the last stage whose rewards are shown, counted from 1.
    """

    arms: Mapping[str, StartArm]
    stages: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]


def _loft(support: str) -> StartArm:
    return StartArm({"type": "loft", "rank": 8, "support": support}, (3e-2,))


STUDIES: Final[Mapping[str, StartStudy]] = {
    "lora": StartStudy(
        {
            "random": StartArm({"type": "lora", "rank": 2}, (1e-2, 3e-2)),
            "eva": StartArm({"type": "lora", "rank": 2, "start": "eva"}, (1e-2, 3e-2)),
            "eva, rho 2": StartArm({"type": "lora", "rank": 2, "start": "eva", "rho": 2.0}, (1e-2, 3e-2)),
        },
        stages=(60,),
        windows=((6, 10), (16, 20), (56, 60)),
    ),
    "loft": StartStudy(
        {support: _loft(support) for support in ("principal", "coordinate", "random", "eva", "gradient")},
        stages=(60,),
        windows=((6, 10), (16, 20), (56, 60)),
    ),
    "grown": StartStudy(
        {
            "hyper, from its position": StartArm({"type": "hyper", "dimension": 64}, (3e-2, 1e-1)),
            "unilora, copy": StartArm({"type": "unilora", "dimension": 64}, (1e-1, 3e-1), "copy"),
            "unilora, zero": StartArm({"type": "unilora", "dimension": 64}, (1e-1, 3e-1), "zero"),
        },
        stages=(40, 40),
        windows=((1, 1), (6, 10), (16, 20), (36, 40)),
    ),
}


def arm_spec(study: str, arm: str, rate: float, seed: int) -> Document:
    """Return the run spec of one arm at a learning rate.

    Raises:
        KeyError: the study or the arm does not exist.
    """
    about = STUDIES[study]
    start = about.arms[arm]
    name = f"{study}-{arm}-lr{rate:g}-s{seed}".replace(", ", "-").replace(" ", "-").replace(".", "_")
    spec: Document = {
        "name": name,
        "seed": seed,
        "topology": {"chain": 3},
        "task": {"type": "chain", "hops": 2 + len(about.stages)},
        "adapter": start.adapter,
        "training": {"steps": sum(about.stages), "prompts_per_step": 24, "group_size": 8, "learning_rate": rate},
        "evaluation": {"examples": 512},
        "checkpoint": {"every": 0},
        "tracking": {"rollouts_per_sample": 0},
        "engine": {"type": "transformers"},
        "runtime": {"type": "local"},
    }
    if len(about.stages) == 1:
        return spec
    growth = {
        "levels": [3, 4],
        "plans": [{"edits": [{"edit": "append", "layers": [1]}], "inherit": {"new": start.new}}],
        "trigger": {"type": "steps"},
        "steps_per_level": list(about.stages),
    }
    return spec | {"growth": growth}


def next_rate(study: str, arm: str, tried: Mapping[float, float]) -> float | None:
    """Return the first of an arm's rates that was not tried, None when all were."""
    return next((rate for rate in STUDIES[study].arms[arm].rates if rate not in tried), None)
