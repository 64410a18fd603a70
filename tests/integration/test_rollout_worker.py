"""A worker with a real engine behind the local client; the transformers engine starts fast."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.cluster.setup import WorkerSetup
from neuromas.engines.setup import EngineSetup
from neuromas.errors import RolloutError
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Provenance
from neuromas.rollout.worker import RolloutWorker
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.tasks.base import Example
from neuromas.tasks.chain import ChainSpec, ChainTask
from neuromas.tasks.tree import TreeTask
from neuromas.topology.builders import chain, layered

TASK = ChainTask(hops=3)


@pytest.fixture(scope="module")
def worker(small_base: Path) -> Iterator[RolloutWorker]:
    engine = EngineSetup(small_base, EngineSpec(type="transformers"), 2, ("q_proj",))
    worker = WorkerSetup(engine, 4, PromptSpec(), ChainSpec(type="chain", hops=3)).make()
    yield worker
    worker.close()
    worker.close()


def make_batch(**changes: object) -> RolloutBatch:
    topology = layered([2])
    examples = tuple(TASK.example("train", index) for index in range(3))
    adapters = dict.fromkeys(topology.adapters)
    batch = RolloutBatch(topology, examples, 2, adapters, SamplingSpec(), False, 0, Provenance("run", 0, 0))
    return replace(batch, **changes)  # type: ignore[arg-type]


def make_lora(seed: int) -> PlainLora:
    rng = np.random.default_rng(seed)
    pair = rng.normal(size=(2, 64)).astype(np.float32), rng.normal(size=(64, 2)).astype(np.float32)
    return PlainLora(2, {"model.layers.0.self_attn.q_proj": pair})


def tokens_of(groups: list) -> list:
    return [[call.completion_token_ids for r in group.rollouts for call in r.calls] for group in groups]


def test_the_same_batch_gives_the_same_rollouts_whole_or_split(worker: RolloutWorker) -> None:
    batch = make_batch()
    whole = tokens_of(worker.rollout(batch))
    assert tokens_of(worker.rollout(pickle.loads(pickle.dumps(batch)))) == whole
    halves = [worker.rollout(replace(batch, examples=part)) for part in (batch.examples[:1], batch.examples[1:])]
    assert [tokens for half in halves for tokens in tokens_of(half)] == whole
    other = replace(batch, provenance=Provenance("run", 0, 1))
    assert tokens_of(worker.rollout(other)) != whole


def test_stats_count_what_was_sampled(worker: RolloutWorker) -> None:
    groups = worker.rollout(make_batch())
    calls = [call for group in groups for rollout in group.rollouts for call in rollout.calls]
    stats = worker.last_stats
    assert (stats.rollouts, stats.calls, stats.failed_rollouts) == (6, 18, 0)
    assert stats.generated_tokens == sum(len(call.completion_token_ids) for call in calls)
    assert stats.prompt_tokens == sum(len(call.prompt_token_ids) for call in calls)
    assert stats.truncated_calls == sum(call.finish_reason == "length" for call in calls)
    assert 0 < stats.engine_s <= stats.total_s
    assert worker.info()["engine"] == "TransformersEngine"


def test_a_batch_samples_with_the_versions_published_before_it(worker: RolloutWorker) -> None:
    client = LocalRolloutClient(worker)
    first = {name: AdapterRef(name, 0) for name in ("n1", "n2", "n3")}
    second = first | {"n1": AdapterRef("n1", 1)}
    client.publish({ref: make_lora(seed) for seed, ref in enumerate(first.values())})
    early = client.submit(make_batch(adapters=first))
    client.publish({second["n1"]: make_lora(9)}, retire=[first["n1"]])
    late = client.submit(make_batch(adapters=second))
    versions = [
        {call.adapter for group in client.collect(ticket) for rollout in group.rollouts for call in rollout.calls}
        for ticket in (early, late)
    ]
    assert versions == [set(first.values()), set(second.values())]
    assert client.last_stats.calls == 18
    with pytest.raises(RolloutError, match="collected before"):
        client.collect(early)
    client.publish({}, retire=list(second.values()))


class Generous(ChainTask):
    def score(self, example: Example, text: str) -> float:
        return 1.0


def test_a_batch_may_bring_its_own_task(worker: RolloutWorker) -> None:
    generous = worker.rollout(make_batch(task=Generous(hops=3)))
    assert {rollout.reward for group in generous for rollout in group.rollouts} == {1.0}
    strict = worker.rollout(make_batch(task=TreeTask(depth=1)))
    assert {rollout.reward for group in strict for rollout in group.rollouts} == {0.0}


def test_chat_prompts_are_those_of_the_template(small_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chatty"
    shutil.copytree(small_base, folder)
    template = (
        "{% for m in messages %}<bos> {{ m.role }} : {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}> {% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    (folder / "neuromas.json").write_text(json.dumps({}))
    spec = PromptSpec(instruction="so L{layer} N{index}")
    prompt = make_renderer(spec, folder).render(chain(2), "n2", TASK.example("train", 0), [("n1", "7")])
    words = make_renderer(PromptSpec(renderer="plain", instruction="so"), folder)
    from transformers import AutoTokenizer

    content = f"so L2 N1\n\nTask:\n{TASK.example('train', 0).prompt}\n\nMessage from layer 1, position 1:\n7"
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False
    )
    assert list(prompt) == expected
    assert words.decode(prompt[-2:]) == "7 >"
