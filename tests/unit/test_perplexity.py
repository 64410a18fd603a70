"""The bare base's perplexity of messages."""

from __future__ import annotations

from math import exp
from statistics import fmean

import pytest

from neuromas.base.resolve import resolve_base
from neuromas.engines.transformers import TransformersEngine
from neuromas.rollout.engine import EngineCall, EngineResult, Sampling
from neuromas.rollout.record import Group, NodeCall, Provenance, Rollout
from neuromas.spec.machine import EngineSpec
from neuromas.studies.perplexity import base_perplexity
from neuromas.tasks.base import Example

BASE = resolve_base("tiny")
PROMPTS = {"n1": (5, 6, 7), "n2": (5, 6, 7, 8, 9, 10)}


@pytest.fixture(scope="module")
def said() -> dict[str, EngineResult]:
    """What the bare base itself writes, with the log-probabilities that it had."""
    engine = TransformersEngine(BASE, EngineSpec(type="transformers", max_model_len=64), 0, 1)
    engine.submit([EngineCall(f"{node}.{k}", PROMPTS[node], Sampling(6, seed=k)) for node in PROMPTS for k in range(4)])
    results: dict[str, EngineResult] = {}
    while engine.has_unfinished():
        results |= {result.id: result for result in engine.step()}
    engine.close()
    return results


def group(index: int, results: dict[str, EngineResult]) -> Group:
    example = Example(str(index), "", "")
    calls = tuple(
        NodeCall(node, None, PROMPTS[node], result.token_ids, result.logprobs, "stop", "")
        for node in PROMPTS
        for result in [results[f"{node}.{index}"]]
    )
    return Group(example, (Rollout("", Provenance("run", 0, 0), example, 0, 0, calls, "", 0.0),))


def test_what_the_base_itself_says_has_the_perplexity_of_its_own_log_probabilities(
    said: dict[str, EngineResult],
) -> None:
    found = base_perplexity([group(index, said) for index in range(4)], ["n1", "n2"], BASE, "float32")
    own = {node: [logprob for k in range(4) for logprob in said[f"{node}.{k}"].logprobs] for node in PROMPTS}
    assert found == pytest.approx({node: exp(-fmean(logprobs)) for node, logprobs in own.items()}, rel=1e-4)


def test_other_tokens_are_less_likely_and_a_node_without_tokens_is_left_out(said: dict[str, EngineResult]) -> None:
    strange = EngineResult("", (100, 3, 90, 4), (0.0,) * 4, "length")
    nothing = EngineResult("", (), (), "error")
    found = base_perplexity([group(0, {"n1.0": strange, "n2.0": nothing})], ["n1", "n2"], BASE, "float32")
    assert set(found) == {"n1"}
    assert found["n1"] > 10 * base_perplexity([group(0, said)], ["n1"], BASE, "float32")["n1"]
