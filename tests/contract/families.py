"""Every family at one or more sizes that fit the layers of the tests' bases, for the suites that run over all."""

from __future__ import annotations

from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.unilora.spec import UniLoraSpec

SPECS: dict[str, AdapterSpec] = {
    "lora": LoraSpec(rank=2, alpha=4.0),
    "unilora": UniLoraSpec(rank=2, dimension=20, alpha=4.0),
}
