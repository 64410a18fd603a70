"""vLLM's side of the adapters: our CPU operator against the shipped one, and exported files in stock vLLM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.errors import BaseModelError
from neuromas.rollout.engine import EngineCall, Sampling
from neuromas.spec.machine import EngineSpec

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", autouse=True)
def _vllm() -> None:
    from neuromas.engines.vllm_start import import_vllm

    import_vllm()


@pytest.mark.parametrize("layout", ["ordered", "mixed", "one adapter", "none"])
@pytest.mark.parametrize("rank", [1, 8])
@pytest.mark.parametrize("slots", [5, 16])
def test_grouped_operator_equals_the_shipped_one(slots: int, rank: int, layout: str) -> None:
    from vllm.lora.layers import LoRAMapping
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    from neuromas.engines.vllm_grouped_lora import GroupedPunicaWrapper

    rng = np.random.default_rng(slots * rank)
    ids = [100 + slot for slot in range(slots)]
    # Prompts of 1 to 9 tokens; number 0 is the bare base.
    chosen = rng.choice([0, *ids], size=40)
    chosen = {"ordered": np.sort(chosen), "mixed": chosen, "one adapter": chosen * 0 + 103, "none": chosen * 0}[layout]
    per_token = tuple(np.repeat(chosen, rng.integers(1, 10, size=40)).tolist())
    generator = torch.Generator().manual_seed(rank)
    widths = (24, 16, 16)
    a = tuple(torch.randn(slots, 1, rank, 32, generator=generator) for _ in widths)
    b = tuple(torch.randn(slots, 1, width, rank, generator=generator) for width in widths)
    b[1].zero_()  # a slice that no adapter touches
    x = torch.randn(len(per_token), 32, generator=generator)
    before = torch.randn(len(per_token), sum(widths), generator=generator)
    outputs = []
    for wrapper_class in (PunicaWrapperCPU, GroupedPunicaWrapper):
        wrapper = wrapper_class(1024, max_batches=64, device="cpu")
        mapping = LoRAMapping(per_token, tuple(chosen.tolist()), is_prefill=True)
        wrapper.update_metadata(mapping, [*ids], slots + 1, 135)
        y = before.clone()
        wrapper.add_lora_linear(y, x, a, b, 1.0, widths)
        outputs.append((y, wrapper))
    (expected, shipped), (got, grouped) = outputs
    # The shipped operator reads "no adapter" (-1) as the last slot, so tokens of the bare base are left out.
    on_base = torch.tensor(per_token) == 0
    torch.testing.assert_close(got[~on_base], expected[~on_base], atol=2e-5, rtol=1e-5)
    assert torch.equal(got[on_base], before[on_base])
    for name in ("token_lora_indices", "sampler_indices", "sampler_indices_padded"):
        assert torch.equal(getattr(grouped, name), getattr(shipped, name))
    assert torch.equal(got[:, 24:40], before[:, 24:40])


def test_grouped_operator_forgets_old_adapters_of_a_slot() -> None:
    from vllm.lora.layers import LoRAMapping

    from neuromas.engines.vllm_grouped_lora import GroupedPunicaWrapper

    a, b = torch.ones(2, 1, 1, 4), torch.zeros(2, 1, 3, 1)
    wrapper = GroupedPunicaWrapper(64, max_batches=8, device="cpu")
    x, y = torch.ones(2, 4), torch.zeros(2, 3)
    wrapper.update_metadata(LoRAMapping((7, 7), (7, 7), is_prefill=True), [7, None], 3, 135)
    wrapper.add_lora_linear(y, x, (a,), (b,), 1.0, (3,))
    assert y.sum() == 0
    b[0] = 1.0
    wrapper.update_metadata(LoRAMapping((8, 8), (8, 8), is_prefill=True), [8, None], 3, 135)
    wrapper.add_lora_linear(y, x, (a,), (b,), 1.0, (3,))
    assert torch.equal(y, torch.full((2, 3), 4.0))


def test_head_dimensions_without_a_kernel_are_refused_before_the_start(small_base: Path, tmp_path: Path) -> None:
    import json
    import shutil

    from neuromas.engines.vllm import VllmEngine

    folder = tmp_path / "base"
    shutil.copytree(small_base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"head_dim": 16}))
    with pytest.raises(BaseModelError, match="head_dim is 16"):
        VllmEngine(folder, EngineSpec(), 2, 1)
    with pytest.raises(BaseModelError, match="reads at most 128"):
        VllmEngine(small_base, EngineSpec(max_model_len=256), 2, 1)


def test_exported_folders_serve_in_stock_vllm_beside_the_bare_base(small_base: Path, tmp_path: Path) -> None:
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input
    from vllm.lora.request import LoRARequest

    from neuromas.adapters.export import write_peft_folder
    from neuromas.base.resolve import read_base
    from neuromas.engines.transformers import TransformersEngine
    from neuromas.engines.vllm_start import start_vllm

    rng = np.random.default_rng(5)
    modules = {
        f"model.layers.{layer}.{name}": (
            rng.normal(0, 0.2, (1, size_in)).astype(np.float32),
            rng.normal(0, 0.2, (size_out, 1)).astype(np.float32),
        )
        for layer in range(2)
        for name, (size_in, size_out) in {"self_attn.v_proj": (64, 64), "mlp.down_proj": (168, 64)}.items()
    }
    lora = PlainLora(1, modules)
    write_peft_folder(lora, str(small_base), tmp_path / "adapter")
    prompt = (1, 22, 15, 8, 18, 9, 34, 4, 110, 126, 7)

    oracle = TransformersEngine(small_base, EngineSpec(type="transformers"), 1, 1)
    ref = AdapterRef("n1", 0)
    oracle.publish({ref: lora})
    adapters = {"adapted": ref, "bare": None}
    oracle.submit([EngineCall(name, prompt, Sampling(8, temperature=0.0), ref) for name, ref in adapters.items()])
    expected = {}
    while oracle.has_unfinished():
        expected |= {result.id: result for result in oracle.step()}

    spec = EngineSpec(lora_kernel="stock", kv_cache_gib=0.1, max_num_seqs=8)
    engine = start_vllm(read_base(small_base), spec, max_adapters=1, max_rank=1, targets=None)
    params = SamplingParams(max_tokens=8, temperature=0.0, logprobs=0, detokenize=False, stop_token_ids=[2])
    request = LoRARequest("exported", 1, str(tmp_path / "adapter"))
    # One batch of both: the shipped operator serves the bare base right only because a slot is kept empty.
    engine.add_request("adapted", tokens_input(list(prompt)), params, lora_request=request)
    engine.add_request("bare", tokens_input(list(prompt)), params)
    outputs = []
    while engine.has_unfinished_requests():
        outputs += [output for output in engine.step() if output.finished]
    engine.engine_core.shutdown()
    assert {output.request_id for output in outputs} == {"adapted", "bare"}
    for output in outputs:
        (completion,), oracle_result = output.outputs, expected[output.request_id]
        assert tuple(completion.token_ids) == oracle_result.token_ids
        pairs = zip(completion.logprobs, completion.token_ids, strict=True)
        assert [entry[token].logprob for entry, token in pairs] == pytest.approx(oracle_result.logprobs, abs=1e-4)


def test_the_engine_of_a_run_wraps_the_layers_that_its_spec_adapts_and_no_others(small_base: Path) -> None:
    from vllm.lora.layers import BaseLayerWithLoRA

    from neuromas.engines.setup import EngineSetup

    engine = EngineSetup(small_base, EngineSpec(type="vllm", kv_cache_gib=0.1, max_num_seqs=8), 1, ("v_proj",)).start(1)
    try:
        runner = engine._engine.engine_core.engine_core.model_executor.driver_worker.model_runner
        wrapped = {path for path, layer in runner.model.named_modules() if isinstance(layer, BaseLayerWithLoRA)}
    finally:
        engine.close()
    # vLLM computes q, k and v in one layer.
    assert wrapped == {f"model.layers.{layer}.self_attn.qkv_proj" for layer in range(2)}
