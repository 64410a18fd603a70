"""The transformers engine's one batch: calls come and go at any step, and none of them notices the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.engines.transformers import TransformersEngine
from neuromas.rollout.engine import EngineCall, EngineResult, Sampling
from neuromas.spec.machine import EngineSpec

LENGTH, ROWS = 48, 6
SHAPES = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (64, 64), "mlp.down_proj": (168, 64)}
REFS = [AdapterRef(name, 0, "batches") for name in ("a", "b", "c")]
BROKEN = AdapterRef("broken", 0, "batches")


def lora(seed: int, scale: float = 0.2) -> PlainLora:
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return draw.normal(0, scale, shape).astype(np.float32)

    modules = {
        f"model.layers.{k}.{name}": (normal(2, i), normal(o, 2)) for k in range(2) for name, (i, o) in SHAPES.items()
    }
    return PlainLora(2, modules)


@pytest.fixture(scope="module")
def engine(small_base: Path) -> Iterator[TransformersEngine]:
    """An engine of six rows at most."""
    engine = TransformersEngine(
        small_base, EngineSpec(type="transformers", max_model_len=LENGTH, max_num_seqs=ROWS), 4, 2
    )
    engine.publish({ref: lora(seed) for seed, ref in enumerate(REFS)})
    engine.publish({BROKEN: lora(9, scale=1e30)})
    yield engine
    engine.close()


def calls_of(seed: int, number: int) -> list[EngineCall]:
    """Calls of four policies, whose prompts share beginnings of every length, one token to thirty."""
    draw = np.random.default_rng(seed)
    stem = draw.integers(4, 120, 30).tolist()
    return [
        EngineCall(
            str(k),
            (*stem[: draw.integers(0, 30)], *draw.integers(4, 120, draw.integers(1, 4)).tolist()),
            Sampling(int(draw.integers(1, 9)), seed=k),
            [None, *REFS][draw.integers(4)],
        )
        for k in range(number)
    ]


def finish(engine: TransformersEngine) -> dict[str, EngineResult]:
    results: dict[str, EngineResult] = {}
    while engine.has_unfinished():
        results |= {result.id: result for result in engine.step()}
    return results


@pytest.mark.parametrize("seed", range(4))
def test_calls_that_come_and_go_sample_what_they_sample_alone(engine: TransformersEngine, seed: int) -> None:
    draw = np.random.default_rng(100 + seed)
    waiting, results, gone = calls_of(seed, 24), dict[str, EngineResult](), set[str]()
    calls = {call.id: call for call in waiting}
    while waiting or engine.has_unfinished():
        engine.submit([waiting.pop() for _ in range(min(len(waiting), draw.integers(0, 5)))])
        results |= {result.id: result for result in engine.step()}
        under_way = sorted(set(calls) - set(results) - gone - {call.id for call in waiting})
        if under_way and draw.random() < 0.3:
            gone.add(str(draw.choice(under_way)))
            engine.abort(sorted(gone))
    assert set(results) == set(calls) - gone
    assert len(gone) > 1
    for name, result in results.items():
        engine.submit([calls[name]])
        alone = finish(engine)[name]
        assert result.token_ids == alone.token_ids
        assert result.logprobs == pytest.approx(alone.logprobs, abs=2e-5)


def test_prompts_of_unequal_length_that_fill_the_batch_at_once_keep_their_rows(engine: TransformersEngine) -> None:
    prompts = [(10 + k, *range(20, 20 + k)) for k in range(1, ROWS + 1)]
    calls = [EngineCall(str(k), prompt, Sampling(4, seed=k), REFS[k % 3]) for k, prompt in enumerate(prompts)]
    engine.submit(calls)
    results = finish(engine)
    for call in calls:
        engine.submit([call])
        alone = finish(engine)[call.id]
        assert results[call.id].token_ids == alone.token_ids
        assert results[call.id].logprobs == pytest.approx(alone.logprobs, abs=2e-5)


def test_no_numbers_of_one_call_do_not_reach_the_call_that_takes_its_row(engine: TransformersEngine) -> None:
    broken = [EngineCall(f"x{k}", (5, 6, 7, 8 + k), Sampling(4, seed=k), BROKEN) for k in range(3)]
    fine = [EngineCall(f"y{k}", (5, 6, 7, 8 + k), Sampling(4, seed=k), REFS[0]) for k in range(6)]
    engine.submit([*broken, *fine])
    results = finish(engine)
    assert {results[call.id].finish_reason for call in broken} == {"error"}
    for call in fine:
        engine.submit([call])
        assert results[call.id].token_ids == finish(engine)[call.id].token_ids


def test_prompts_that_begin_alike_are_read_once(engine: TransformersEngine) -> None:
    prompt = tuple(range(10, 40))
    calls = [EngineCall(str(k), (*prompt, 50 + k // 2), Sampling(2, seed=k), REFS[0]) for k in range(4)]
    engine.submit([*calls, EngineCall("other", prompt, Sampling(2), REFS[1])])
    results = finish(engine)
    assert sorted(results[call.id].cached_tokens for call in calls) == [0, 30, 30, 30]
    assert results["other"].cached_tokens == 0
