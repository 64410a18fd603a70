"""Every family at one or more sizes that fit the layers of the tests' bases, for the suites that run over all."""

from __future__ import annotations

from neuromas.adapters.families.adamss.spec import AdamssSpec
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.hyper.spec import HyperSpec
from neuromas.adapters.families.loft.spec import LoftSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.ssf.spec import SsfSpec
from neuromas.adapters.families.unilora.spec import UniLoraSpec

SPECS: dict[str, AdapterSpec] = {
    "lora": LoraSpec(rank=2, alpha=4.0),
    "loft-principal": LoftSpec(rank=4),
    "loft-coordinate": LoftSpec(rank=4, support="coordinate"),
    "loft-random": LoftSpec(rank=3, support="random"),
    "ssf-output": SsfSpec(channels=3),
    "ssf-input": SsfSpec(channels=2, side="input"),
    "ssf-random": SsfSpec(channels=3, start="random"),
    "adamss": AdamssSpec(basis=4, segments=3, rank=2),
    "hyper": HyperSpec(rank=2, dimension=20),
    "hyper-residual": HyperSpec(rank=2, dimension=20, residual=True),
    "unilora": UniLoraSpec(rank=2, dimension=20, alpha=4.0),
}
