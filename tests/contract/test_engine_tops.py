"""The most probable tokens in the place of each sampled one, by the engines that have a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import exp
from pathlib import Path

import pytest

from neuromas.rollout.engine import Engine, EngineCall, EngineResult, Sampling
from neuromas.spec.machine import EngineSpec

PROMPT = (1, 22, 15, 8, 18, 9, 34, 4, 110, 126, 7)


@pytest.fixture(scope="module")
def transformers_engine(small_base: Path) -> Iterator[Engine]:
    from neuromas.engines.transformers import TransformersEngine

    engine = TransformersEngine(small_base, EngineSpec(type="transformers", max_model_len=48), 0, 1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def vllm_engine(small_base: Path) -> Iterator[Engine]:
    from neuromas.engines.vllm import VllmEngine

    spec = EngineSpec(max_model_len=48, max_num_seqs=64, max_num_batched_tokens=256, kv_cache_gib=0.1)
    engine = VllmEngine(small_base, spec, 0, 1)
    yield engine
    engine.close()


@pytest.fixture(params=["transformers", pytest.param("vllm", marks=pytest.mark.engine)])
def model_engine(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return engine


def result_of(engine: Engine, call: EngineCall) -> EngineResult:
    engine.submit([call])
    results: list[EngineResult] = []
    while engine.has_unfinished():
        results += engine.step()
    return results[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_most_probable_tokens_come_with_each_where_a_call_asks(
    model_engine: Engine, temperature: float, is_streamed: bool
) -> None:
    asks = EngineCall("asks", PROMPT, Sampling(5, temperature, seed=3, num_top=4), is_streamed=is_streamed)
    plain = replace(asks, id="plain", sampling=replace(asks.sampling, num_top=0), is_streamed=False)
    model_engine.submit([asks, plain])
    seen, results = [], {}
    while model_engine.has_unfinished():
        results |= {result.id: result for result in model_engine.step()}
        seen += [top for partial in model_engine.partials() for top in partial.tops]
    result = results["asks"]
    assert results["plain"].tops == ()
    assert result.token_ids == results["plain"].token_ids
    assert result.logprobs == pytest.approx(results["plain"].logprobs, abs=1e-5)
    assert len(result.tops) == len(result.token_ids)
    assert seen == list(result.tops)[: len(seen)]
    assert bool(seen) == (is_streamed and len(result.token_ids) > 1)
    for token_id, logprob, top in zip(result.token_ids, result.logprobs, result.tops, strict=True):
        values = [value for _, value in top]
        assert len(dict(top)) == 4
        assert values == sorted(values, reverse=True)
        assert logprob <= values[0] + 1e-6
        assert dict(top).get(token_id, logprob) == pytest.approx(logprob, abs=1e-6)
        assert sum(map(exp, values)) <= 1 + 1e-5
        assert temperature > 0 or top[0][0] == token_id


@pytest.mark.engine
def test_engines_agree_on_the_most_probable_tokens(transformers_engine: Engine, vllm_engine: Engine) -> None:
    call = EngineCall("c", PROMPT, Sampling(4, 0.0, num_top=3))
    one, other = (result_of(engine, call) for engine in (transformers_engine, vllm_engine))
    assert one.token_ids == other.token_ids
    for ours, theirs in zip(one.tops, other.tops, strict=True):
        assert [value for _, value in ours] == pytest.approx([value for _, value in theirs], abs=1e-3)
