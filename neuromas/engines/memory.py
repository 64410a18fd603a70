"""What an engine's process takes at most on a CPU. Loads no torch."""

from __future__ import annotations

from typing import Final

from neuromas.base.sizes import BaseSizes
from neuromas.spec.credit import rollouts_per_example
from neuromas.spec.machine import EngineType
from neuromas.spec.run import RunSpec

_PROCESS: Final = {"vllm": 1600 << 20, "transformers": 900 << 20}
"""What the process takes before it has loaded a base: its libraries."""
_LOGIT_COPIES: Final = 4
_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


def engine_bytes(spec: RunSpec, type: EngineType, sizes: BaseSizes, longest_call: int) -> int | None:
    """Return the most bytes that an engine on a CPU takes; None where the base's files do not say.

    Args:
        spec: the run.
        type: of its engine.
        sizes: of its base.
        longest_call: tokens of its longest prompt and completion together.
    """
    engine, base = spec.engine, sizes.dimensions
    if base is None or sizes.kv_per_token is None:
        return None
    width = _BYTES[engine.dtype]
    rollouts = spec.training.prompts_per_step * rollouts_per_example(spec.training, spec.topology)
    rows = min(engine.max_num_seqs, rollouts * spec.topology.width)
    cache = rows * longest_call * sizes.kv_per_token * width // 4
    if type == "vllm":
        cache = round(engine.kv_cache_gib * 2**30)
    return _PROCESS[type] + base.parameters * width + cache + _LOGIT_COPIES * 4 * rows * base.vocabulary
