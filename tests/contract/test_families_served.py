"""Adapters of every family in one vLLM engine: it says what the trainer's own forward pass says."""

from pathlib import Path

import pytest
import torch
from adapter_families import SPECS

from neuromas.adapters.build import build_model
from neuromas.adapters.export import engine_rank
from neuromas.adapters.ref import AdapterRef
from neuromas.rollout.engine import EngineCall, Sampling
from neuromas.spec.machine import EngineSpec
from neuromas.topology.document import topology_from_document

pytestmark = pytest.mark.engine
GRAPH = topology_from_document({"layers": [1]})
PROMPTS = [(1, 22, 15, 8, 18, 9, 34, 4, 110, 126, 7), (1, 12, 13, 14, 7)]


def test_the_engine_says_what_the_trainer_says(small_base: Path):
    from neuromas.engines.vllm import VllmEngine

    models, weights = {}, {}
    for name, spec in SPECS.items():
        model, bank = build_model(small_base, spec, GRAPH, seed=0)
        generator = torch.Generator().manual_seed(1)
        for owned in bank.trained():
            owned.tensor.data += 0.3 * torch.randn(owned.tensor.shape, generator=generator)
        for k, node in enumerate(bank.names):
            models[AdapterRef(node, k, name)] = (model.eval(), bank)
        weights |= {AdapterRef(node, k, name): lora for k, (node, lora) in enumerate(bank.export_all().items())}
    rank = engine_rank(max(spec.served_rank for spec in SPECS.values()))
    engine = VllmEngine(small_base, EngineSpec(max_model_len=64, max_num_seqs=64, kv_cache_gib=0.1), len(weights), rank)
    try:
        engine.publish(weights)
        calls = [
            EngineCall(f"{ref}/{number}", prompt, Sampling(8, temperature=1.0, seed=number), ref)
            for ref in weights
            for number, prompt in enumerate(PROMPTS)
        ]
        engine.submit(calls)
        results = {}
        while engine.has_unfinished():
            results |= {result.id: result for result in engine.step()}
    finally:
        engine.close()
    gaps = {}
    for call in calls:
        model, bank = models[call.adapter]
        result = results[call.id]
        ids = torch.tensor([[*call.prompt_token_ids, *result.token_ids]])
        with torch.no_grad():
            bank.set_routes([bank.index(call.adapter.name)])
            own = model(input_ids=ids).logits[0].log_softmax(1)
            with model.disable_adapter():
                bare = model(input_ids=ids).logits[0].log_softmax(1)
        places = torch.arange(len(call.prompt_token_ids) - 1, ids.shape[1] - 1)
        tokens = torch.tensor(result.token_ids)
        gap = (own[places, tokens] - torch.tensor(result.logprobs)).abs().max().item()
        effect = (own[places] - bare[places]).abs().max().item()
        family = call.adapter.namespace
        gaps[family] = max(gap, gaps.get(family, 0.0))
        assert effect > 100 * max(gap, 1e-6), (family, gap, effect)
    assert set(gaps) == set(SPECS)
    assert max(gaps.values()) < 1e-4, gaps
