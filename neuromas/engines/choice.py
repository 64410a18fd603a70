"""Which engine "auto" is, by base and by what it is for. Loads no torch."""

from __future__ import annotations

from neuromas.base.resolve import CPU_HEAD_DIMS, BaseInfo
from neuromas.base.sizes import is_small
from neuromas.spec.machine import EngineType
from neuromas.spec.run import RunSpec


def engine_type(spec: RunSpec, base: BaseInfo, *, serves: bool = False) -> EngineType:
    """Return what ``engine.type`` says, or what is faster.

    A run asks all questions of a step at once; on small bases what vLLM does around its products then costs more than
    it saves. Who serves gets questions one by one, which vLLM's batches and caches are made for.

    Args:
        spec: the run.
        base: its base.
        serves: whether questions come from clients, and not from a run.

    Raises:
        BaseModelError: the base has no weights whose size could be read.
    """
    engine = spec.engine
    if engine.type != "auto":
        return engine.type
    if spec.runtime.gpus_per_rollout_worker > 0 or engine.vllm_settings:
        return "vllm"
    if base.head_dim not in CPU_HEAD_DIMS:  # vLLM has no kernel for it
        return "transformers"
    return "transformers" if is_small(base.folder) and not serves else "vllm"
