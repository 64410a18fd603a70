"""The Engine protocol over its implementations: scripted (where no weights matter), transformers and vLLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hashed_draws import hashed_delays

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import AdapterError, EngineError
from neuromas.rollout.engine import Engine, EngineCall, EngineResult, Sampling
from neuromas.spec.machine import EngineSpec

MAX_LEN, SLOTS, RANK = 48, 4, 8
SHAPES = {
    "self_attn.q_proj": (64, 64),
    "self_attn.v_proj": (64, 64),
    "mlp.up_proj": (64, 168),
    "mlp.down_proj": (168, 64),
}
PROMPTS = [(1, 22, 15, 8, 18, 9, 34, 4, 110, 126, 7), (1, 12, 13, 14, 7), (1, 30, 31, 7)]
VERSIONS = count()
VLLM = pytest.param("vllm", marks=pytest.mark.engine)


def make_lora(seed: int, rank: int = RANK, scale: float = 0.2) -> PlainLora:
    rng = np.random.default_rng(seed)
    modules = {}
    for layer in range(2):
        for name, (size_in, size_out) in SHAPES.items():
            a = rng.normal(0, scale, (rank, size_in)).astype(np.float32)
            b = rng.normal(0, scale, (size_out, rank)).astype(np.float32)
            modules[f"model.layers.{layer}.{name}"] = (a, b)
    return PlainLora(rank, modules)


def fresh(name: str = "node") -> AdapterRef:
    """A version that no test has used before; the engines live as long as this module."""
    return AdapterRef(name, next(VERSIONS), "run/0")


def run(engine: Engine, calls: Sequence[EngineCall]) -> dict[str, EngineResult]:
    engine.submit(calls)
    results: dict[str, EngineResult] = {}
    while engine.has_unfinished():
        results.update({result.id: result for result in engine.step()})
    return results


@pytest.fixture(scope="module")
def transformers_engine(small_base: Path) -> Iterator[Engine]:
    from neuromas.engines.transformers import TransformersEngine

    engine = TransformersEngine(small_base, EngineSpec(type="transformers", max_model_len=MAX_LEN), SLOTS, RANK)
    yield engine
    engine.close()
    engine.close()


@pytest.fixture(scope="module")
def vllm_engine(small_base: Path) -> Iterator[Engine]:
    from neuromas.engines.vllm import VllmEngine

    spec = EngineSpec(max_model_len=MAX_LEN, max_num_seqs=64, max_num_batched_tokens=256, kv_cache_gib=0.1)
    engine = VllmEngine(small_base, spec, SLOTS, RANK)
    yield engine
    engine.close()
    engine.close()


def scripted_engine() -> Engine:
    def answer(call: EngineCall) -> Sequence[int]:
        return [10 + (call.sampling.seed or 0) % 50] * 3

    return ScriptedEngine(
        answer, lambda call: 2, stop_token_id=2, max_model_len=MAX_LEN, max_adapters=SLOTS, max_rank=RANK
    )


@pytest.fixture(params=["scripted", "transformers", VLLM])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "scripted":
        return scripted_engine()
    return request.getfixturevalue(f"{request.param}_engine")


@pytest.fixture(params=["transformers", VLLM])
def model_engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(f"{request.param}_engine")


def test_every_call_is_returned_once_within_its_budget(engine: Engine) -> None:
    calls = [EngineCall(f"c{i}", PROMPTS[i % 3], Sampling(1 + i % 5, seed=i)) for i in range(20)]
    engine.submit(calls)
    results: list[EngineResult] = []
    while engine.has_unfinished():
        results += engine.step()
    assert sorted(result.id for result in results) == sorted(call.id for call in calls)
    budgets = {call.id: call.sampling.max_tokens for call in calls}
    for result in results:
        assert 1 <= len(result.token_ids) <= budgets[result.id]
        assert len(result.logprobs) == len(result.token_ids)
        assert (result.finish_reason == "stop") == (result.token_ids[-1] == 2)
        assert result.error is None


def test_seeds_reproduce_whatever_shares_the_batch(engine: Engine) -> None:
    call = EngineCall("a", PROMPTS[0], Sampling(8, seed=2**62 + 5))
    alone = run(engine, [call])["a"]
    others = [EngineCall(f"o{i}", PROMPTS[i % 3], Sampling(6, temperature=0.7, seed=i)) for i in range(9)]
    crowded = run(engine, [*others, call])["a"]
    assert crowded.token_ids == alone.token_ids
    assert crowded.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_other_seeds_give_other_samples(engine: Engine) -> None:
    results = run(engine, [EngineCall(f"c{i}", PROMPTS[0], Sampling(6, seed=i)) for i in range(8)])
    assert len({result.token_ids for result in results.values()}) > 1


def test_calls_that_cannot_run_come_back_as_errors_and_the_engine_lives_on(engine: Engine) -> None:
    results = run(
        engine,
        [
            EngineCall("long", (5,) * MAX_LEN, Sampling(4)),
            EngineCall("unknown", PROMPTS[0], Sampling(4), AdapterRef("nobody", 0)),
            EngineCall("fine", PROMPTS[0], Sampling(4)),
        ],
    )
    assert results["long"].finish_reason == results["unknown"].finish_reason == "error"
    assert results["long"].token_ids == results["long"].logprobs == ()
    assert "nobody-v0" in str(results["unknown"].error)
    assert results["fine"].finish_reason != "error"


def test_a_temperature_that_an_engine_does_not_take_is_an_error_of_the_call(engine: Engine) -> None:
    results = run(
        engine,
        [EngineCall("hot", PROMPTS[0], Sampling(4, temperature=4.0)), EngineCall("fine", PROMPTS[0], Sampling(4))],
    )
    assert results["hot"].finish_reason in ("stop", "length", "error")
    assert results["fine"].finish_reason != "error"


def test_a_prompt_that_nearly_fills_the_model_is_cut_at_its_end(engine: Engine) -> None:
    result = run(engine, [EngineCall("a", (5,) * (MAX_LEN - 2), Sampling(8, seed=1))])["a"]
    assert len(result.token_ids) <= 2


def test_aborted_calls_never_come_back(engine: Engine) -> None:
    ref = fresh()
    engine.publish({ref: make_lora(0)})
    calls = [EngineCall(f"c{i}", PROMPTS[1], Sampling(6, seed=i), ref) for i in range(4)]
    engine.submit(calls[:2])
    engine.step()
    engine.submit(calls[2:])
    engine.abort(["c0", "c3", "unknown"])
    returned = set()
    while engine.has_unfinished():
        returned |= {result.id for result in engine.step()}
    assert returned == {"c1", "c2"}
    engine.publish({}, retire=[ref])


def test_streamed_calls_show_their_tokens_once_and_in_order(engine: Engine) -> None:
    ref = fresh()
    engine.publish({ref: make_lora(3)})
    calls = [
        EngineCall(f"c{i}", PROMPTS[i % 3], Sampling(6, seed=i), ref if i % 2 else None, is_streamed=i < 3)
        for i in range(6)
    ]
    seen: dict[str, list[tuple[int, float]]] = {call.id: [] for call in calls}
    results: dict[str, EngineResult] = {}
    engine.submit(calls)
    assert engine.partials() == []
    while engine.has_unfinished():
        results.update({result.id: result for result in engine.step()})
        for partial in engine.partials():
            assert partial.id not in results
            assert partial.token_ids
            seen[partial.id] += zip(partial.token_ids, partial.logprobs, strict=True)
        assert engine.partials() == []
    for call in calls:
        whole = list(zip(results[call.id].token_ids, results[call.id].logprobs, strict=True))
        # The last tokens come with the result; calls that did not ask are not seen.
        assert seen[call.id] == (whole[: len(seen[call.id])] if call.is_streamed else [])
        assert len(seen[call.id]) < len(whole)
    assert any(seen.values())
    engine.publish({}, retire=[ref])


def test_streaming_changes_no_token(engine: Engine) -> None:
    plain = [EngineCall(f"c{i}", PROMPTS[i % 3], Sampling(8, seed=i)) for i in range(6)]
    expected = run(engine, plain)
    streamed = run(engine, [replace(call, is_streamed=True) for call in plain])
    assert {key: result.token_ids for key, result in streamed.items()} == {
        key: result.token_ids for key, result in expected.items()
    }


def test_an_aborted_stream_leaves_nothing_behind(engine: Engine) -> None:
    call = EngineCall("again", PROMPTS[0], Sampling(8, seed=1), is_streamed=True)
    engine.submit([call])
    engine.step()
    engine.abort(["again"])
    assert engine.partials() == []
    engine.submit([call])
    seen: list[int] = []
    results: list[EngineResult] = []
    while engine.has_unfinished():
        results += engine.step()
        seen += [token_id for partial in engine.partials() for token_id in partial.token_ids]
    (result,) = results
    assert tuple(seen) == result.token_ids[: len(seen)]


def test_a_call_id_is_unique_among_the_unfinished(engine: Engine) -> None:
    call = EngineCall("twin", PROMPTS[0], Sampling(2))
    engine.submit([call])
    with pytest.raises(EngineError, match="twin"):
        engine.submit([call])
    engine.abort(["twin"])
    assert not engine.has_unfinished()


def test_a_version_is_never_used_twice(engine: Engine) -> None:
    ref = fresh()
    engine.publish({ref: make_lora(0)})
    with pytest.raises(AdapterError, match="published before"):
        engine.publish({ref: make_lora(1)})
    engine.publish({}, retire=[ref])
    with pytest.raises(AdapterError, match="published before"):
        engine.publish({ref: make_lora(1)})
    assert run(engine, [EngineCall("a", PROMPTS[0], Sampling(2), ref)])["a"].finish_reason == "error"


def test_slots_are_counted_after_retiring(engine: Engine) -> None:
    first = [fresh(f"n{i}") for i in range(SLOTS)]
    engine.publish({ref: make_lora(i) for i, ref in enumerate(first)})
    with pytest.raises(AdapterError, match=f"{SLOTS} slots"):
        engine.publish({fresh(): make_lora(9)})
    second = [fresh(f"n{i}") for i in range(SLOTS)]
    engine.publish({ref: make_lora(i) for i, ref in enumerate(second)}, retire=first)
    results = run(engine, [EngineCall(str(ref), PROMPTS[0], Sampling(2), ref) for ref in second])
    assert {result.finish_reason for result in results.values()} <= {"stop", "length"}
    engine.publish({}, retire=[*second, AdapterRef("unknown", 0)])


def test_a_version_in_use_is_not_retired(engine: Engine) -> None:
    ref = fresh()
    engine.publish({ref: make_lora(0)})
    engine.submit([EngineCall("a", PROMPTS[0], Sampling(4), ref)])
    with pytest.raises(AdapterError, match="still use it"):
        engine.publish({}, retire=[ref])
    engine.abort(["a"])
    engine.publish({}, retire=[ref])


def test_too_large_a_rank_is_refused(engine: Engine) -> None:
    with pytest.raises(AdapterError, match="rank 9"):
        engine.publish({fresh(): make_lora(0, rank=9)})


def test_modules_and_shapes_must_be_those_of_the_base(model_engine: Engine) -> None:
    a, b = np.zeros((1, 64), np.float32), np.zeros((64, 1), np.float32)
    with pytest.raises(AdapterError, match=r"no .*layer 'model\.layers\.7"):
        model_engine.publish({fresh(): PlainLora(1, {"model.layers.7.self_attn.q_proj": (a, b)})})
    with pytest.raises(AdapterError, match="64 to 64 features"):
        model_engine.publish({fresh(): PlainLora(1, {"model.layers.0.mlp.up_proj": (a, b)})})


def test_adapters_mixed_in_one_batch_give_what_each_gives_alone(model_engine: Engine) -> None:
    refs = [None, *(fresh(f"n{i}") for i in range(SLOTS))]
    model_engine.publish({ref: make_lora(i, rank=1 + i) for i, ref in enumerate(refs) if ref is not None})
    calls = [
        EngineCall(f"{place}.{i}", prompt, Sampling(5, temperature=0.0), ref)
        for i, prompt in enumerate(PROMPTS)
        for place, ref in enumerate(refs)
    ]
    mixed = run(model_engine, calls)
    for call in calls:
        alone = run(model_engine, [call])[call.id]
        assert mixed[call.id].token_ids == alone.token_ids
        assert mixed[call.id].logprobs == pytest.approx(alone.logprobs, abs=1e-5)
    assert len({mixed[f"{place}.0"].token_ids for place in range(SLOTS + 1)}) > 1
    model_engine.publish({}, retire=[ref for ref in refs if ref is not None])


def test_a_new_version_never_answers_from_the_old_ones_cache(model_engine: Engine) -> None:
    prompt = tuple(range(4, 4 + 40))
    old, new = fresh(), fresh()
    call = Sampling(3, temperature=0.0)
    model_engine.publish({old: make_lora(1)})
    before = run(model_engine, [EngineCall("old", prompt, call, old)])["old"]
    model_engine.publish({new: make_lora(2)}, retire=[old])
    after = run(model_engine, [EngineCall("new", prompt, call, new)])["new"]
    assert after.cached_tokens == 0
    assert after.logprobs != before.logprobs
    model_engine.publish({}, retire=[new])


def test_equal_prompts_of_one_step_are_prefilled_once(vllm_engine: Engine) -> None:
    """Rollouts of a group enter together and share their prompt all the same: no leader has to go ahead."""
    refs = fresh("a"), fresh("b")
    vllm_engine.publish({refs[0]: make_lora(1), refs[1]: make_lora(2)})
    prompt = tuple(range(50, 50 + 40))
    calls = [
        EngineCall(f"{place}.{i}", prompt, Sampling(2, seed=i), refs[place]) for place in range(2) for i in range(4)
    ]
    results = run(vllm_engine, calls)
    assert [results[call.id].cached_tokens for call in calls] == [0, 32, 32, 32, 0, 32, 32, 32]
    vllm_engine.publish({}, retire=refs)


def test_the_zero_adapter_is_the_base(model_engine: Engine) -> None:
    ref = fresh()
    lora = make_lora(0)
    model_engine.publish({ref: PlainLora(RANK, {path: (a, b * 0) for path, (a, b) in lora.modules.items()})})
    results = run(
        model_engine,
        [EngineCall("base", PROMPTS[0], Sampling(6, seed=4)), EngineCall("zero", PROMPTS[0], Sampling(6, seed=4), ref)],
    )
    assert results["base"].token_ids == results["zero"].token_ids
    assert results["base"].logprobs == pytest.approx(results["zero"].logprobs, abs=1e-5)
    model_engine.publish({}, retire=[ref])


@pytest.mark.parametrize(
    "sampling",
    [Sampling(8, temperature=0.0), Sampling(8, seed=0), Sampling(8, temperature=0.6, top_p=0.7, seed=0)],
    ids=["greedy", "sampled", "nucleus"],
)
def test_both_model_engines_sample_the_same_tokens(
    transformers_engine: Engine, vllm_engine: Engine, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromas.engines.sampling._delays", hashed_delays)
    refs = [None, *(fresh(f"n{i}") for i in range(SLOTS))]
    loras = {ref: make_lora(i, rank=2) for i, ref in enumerate(refs) if ref is not None}
    calls = [
        EngineCall(
            f"{place}.{i}",
            PROMPTS[i % 3],
            Sampling(8, sampling.temperature, sampling.top_p, None if sampling.seed is None else 100 * place + i),
            ref,
        )
        for place, ref in enumerate(refs)
        for i in range(12)
    ]
    answers = []
    for engine in (transformers_engine, vllm_engine):
        engine.publish(loras)
        answers.append(run(engine, calls))
        engine.publish({}, retire=list(loras))
    oracle, tested = answers
    for call in calls:
        assert tested[call.id].token_ids == oracle[call.id].token_ids
        assert tested[call.id].logprobs == pytest.approx(oracle[call.id].logprobs, abs=1e-4)
        assert tested[call.id].finish_reason == oracle[call.id].finish_reason


def test_logprobs_are_those_of_the_distribution_sampled_from(model_engine: Engine) -> None:
    """The mass of the nucleus is 1: over all tokens ever sampled, probabilities sum to at most 1 and to nearly 1."""
    calls = [EngineCall(f"c{i}", PROMPTS[1], Sampling(1, temperature=0.5, top_p=0.4, seed=i)) for i in range(400)]
    results = run(model_engine, calls)
    probabilities = {result.token_ids[0]: np.exp(result.logprobs[0]) for result in results.values()}
    assert sum(probabilities.values()) == pytest.approx(1.0, abs=0.03)
    for token_id, probability in probabilities.items():
        share = np.mean([result.token_ids[0] == token_id for result in results.values()])
        assert share == pytest.approx(probability, abs=0.1)


def test_a_call_may_bring_tokens_that_end_it(engine: Engine) -> None:
    free = run(engine, [EngineCall("free", PROMPTS[0], Sampling(8, seed=3))])["free"]
    end = free.token_ids[-1]
    first = free.token_ids.index(end)
    call = EngineCall("bound", PROMPTS[0], Sampling(8, seed=3), stop_token_ids=frozenset({end, 2}))
    bound = run(engine, [call, EngineCall("beside", PROMPTS[0], Sampling(8, seed=3))])
    assert bound["bound"].token_ids == free.token_ids[: first + 1]
    assert bound["bound"].logprobs == pytest.approx(free.logprobs[: first + 1], abs=1e-4)
    assert bound["bound"].finish_reason == "stop"
    assert bound["beside"].token_ids == free.token_ids
