"""Batches of chain questions for scripted engines, whose answers are words of the tiny base."""

from neuromas.base.symbols import symbols
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.record import Provenance
from neuromas.spec.parts import SamplingSpec
from neuromas.tasks.chain import ChainTask
from neuromas.topology.graph import Topology

TASK = ChainTask(hops=2)
WHERE = Provenance("run", stage=1, step=7)
PLACE = {symbol: place for place, symbol in enumerate(symbols())}


def make_batch(topology: Topology, examples: int = 1, group_size: int = 1, **changes: object) -> RolloutBatch:
    settings: dict[str, object] = {
        "topology": topology,
        "examples": tuple(TASK.example("train", index) for index in range(examples)),
        "group_size": group_size,
        "adapters": dict.fromkeys(topology.adapters),
        "sampling": SamplingSpec(max_tokens=4),
        "greedy": False,
        "seed": 3,
        "provenance": WHERE,
    }
    return RolloutBatch(**(settings | changes))  # type: ignore[arg-type]


def tokens(text: str) -> tuple[int, ...]:
    return tuple(PLACE[word] for word in text.split())
