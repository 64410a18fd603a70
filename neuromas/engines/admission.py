"""What every engine refuses, in the same words. Loads no torch."""

from __future__ import annotations

from typing import Final

from neuromas.engines.versions import VersionTable
from neuromas.rollout.engine import EngineCall, EngineResult
from neuromas.topology.graph import MIN_TEMPERATURE, MIN_TOP_P

NOT_NUMBERS: Final = "the model's logits are not numbers; if engine.dtype is 'float16', take 'bfloat16' or 'float32'"
"""Why a call has no result whose tokens have no probability."""


def refusal(call: EngineCall, versions: VersionTable, max_model_len: int, vocab_size: int) -> EngineResult | None:
    """Return the "error" result of a call that cannot run, None when it can."""
    reason = _reason(call, versions, max_model_len, vocab_size)
    return None if reason is None else EngineResult(call.id, (), (), "error", reason)


def _reason(call: EngineCall, versions: VersionTable, max_model_len: int, vocab_size: int) -> str | None:
    prompt, sampling = call.prompt_token_ids, call.sampling
    if call.adapter is not None and call.adapter not in versions:
        return f"adapter {call.adapter} is not published"
    is_cold = 0 < sampling.temperature < MIN_TEMPERATURE or sampling.temperature < 0
    if sampling.max_tokens < 1 or is_cold or not MIN_TOP_P <= sampling.top_p <= 1:
        return f"sampling settings out of range: {sampling}"
    if not 1 <= len(prompt) < max_model_len:
        return f"prompt of {len(prompt)} tokens does not fit engine.max_model_len = {max_model_len} with an answer"
    if min(prompt) < 0 or max(prompt) >= vocab_size:
        return f"prompt holds token ids outside the vocabulary of {vocab_size}"
    return None
