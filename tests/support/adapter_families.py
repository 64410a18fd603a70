"""Every family at one or more sizes that fit the layers of the tests' bases, for the suites that run over all.

And all of them in one graph, a node each.
"""

from __future__ import annotations

from collections.abc import Mapping

from neuromas.adapters.families.adamss.spec import AdamssSpec
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.hyper.spec import HyperSpec
from neuromas.adapters.families.loft.spec import LoftSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.ssf.spec import SsfSpec
from neuromas.adapters.families.unilora.spec import UniLoraSpec
from neuromas.adapters.kinds import AdapterKinds
from neuromas.spec.node_groups import marked
from neuromas.topology.document import topology_from_document

SPECS: dict[str, AdapterSpec] = {
    "lora": LoraSpec(rank=2, alpha=4.0),
    "loft-principal": LoftSpec(rank=4),
    "loft-coordinate": LoftSpec(rank=4, support="coordinate"),
    "lora-eva": LoraSpec(rank=3, start="eva", tau=0.9, rho=1.5),
    "loft-random": LoftSpec(rank=3, support="random"),
    "loft-eva": LoftSpec(rank=3, support="eva", batches=2),
    "loft-gradient": LoftSpec(rank=6, support="gradient", batches=2),
    "ssf-output": SsfSpec(channels=3),
    "ssf-input": SsfSpec(channels=2, side="input"),
    "ssf-random": SsfSpec(channels=3, start="random"),
    "ssf-gradient": SsfSpec(channels=3, start="gradient", batches=2),
    "adamss": AdamssSpec(basis=4, segments=3, rank=2, budget=0.4),
    "hyper": HyperSpec(rank=2, dimension=20),
    "hyper-residual": HyperSpec(rank=2, dimension=20, residual=True),
    "unilora": UniLoraSpec(rank=2, dimension=20, alpha=4.0),
}

USUAL = "lora"
GROUPS = {name: spec for name, spec in SPECS.items() if name != USUAL} | {
    "elsewhere": LoraSpec(rank=3, targets=("o_proj", "q_proj"))
}
MIXTURE = AdapterKinds(SPECS[USUAL], GROUPS)
NODES = {name: (f"n{number}",) for number, name in enumerate(GROUPS, 1)}
GRAPH = marked(
    topology_from_document({"layers": [len(GROUPS)]}), {node: name for name, nodes in NODES.items() for node in nodes}
)
"""A layer with a node of each group, and an output with the usual adapter."""


def mixed(groups: Mapping[str, AdapterSpec]) -> dict[str, object]:
    """Return the part of a run spec for a layer with a node of each group, and an output with the usual adapter."""
    nodes = {
        name: {"nodes": [f"n{number}"], "adapter": groups[name].model_dump()} for number, name in enumerate(groups, 1)
    }
    return {"topology": {"layers": [len(groups)]}, "adapter": SPECS[USUAL].model_dump(), "node_groups": nodes}


MIXED = mixed(GROUPS)
"""The same as a part of a run spec."""
