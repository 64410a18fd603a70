"""What a node of a kept rollout read, asked of the API: the engine's own prompt, or why it is not to be had."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from api_server import ApiServer, error_of, queued_run, running_api
from word_batches import TASK, make_batch, tokens

from neuromas.base.resolve import resolve_base
from neuromas.engines.scripted import ScriptedEngine
from neuromas.journal.events import QuestionsAsked, RolloutsSampled, StageStarted
from neuromas.journal.folder import RunFolder, RunWriter
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Rollout
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import questions_stream, rollouts_stream
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document
from neuromas.spec.parts import PromptSpec
from neuromas.topology.builders import chain, layered
from neuromas.topology.graph import Topology

GRAPHS: tuple[Topology, ...] = (chain(2), layered([2]))


@dataclass(frozen=True)
class Kept:
    """A run of two stages, the rollout of each, and a question that was asked again in the second."""

    api: ApiServer
    run: Document
    sampled: tuple[Rollout, ...]
    asked: Rollout

    @property
    def folder(self) -> Path:
        return self.api.settings.data_dir / "runs" / self.run["id"] / self.run["name"]

    def prompt(self, node: str, entry: int = 0, stream: str = "rollouts") -> httpx.Response:
        """Ask for what a node read in an entry, counted from 0."""
        path = f"/v1/runs/{self.run['id']}/{stream}"
        id = self.api.client.get(path).json()["data"][entry]["id"]
        return self.api.client.get(f"{path}/{id}/prompt", params={"node": node})


def rolled_out(topology: Topology, example: int) -> Rollout:
    renderer = make_renderer(PromptSpec(), resolve_base("tiny"))
    batch = replace(make_batch(topology), examples=(TASK.example("train", example),))
    (group,) = Dataflow(ScriptedEngine(lambda call: tokens("so A= 3")), renderer).run(TASK, batch)
    return group.rollouts[0]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    settings = Settings(data_dir=tmp_path / "data", port=0, base_roots=str(tmp_path / "bases"))
    with running_api(settings) as api:
        run = queued_run(api)
        sampled, asked = tuple(rolled_out(graph, stage) for stage, graph in enumerate(GRAPHS)), rolled_out(GRAPHS[1], 2)
        found = Kept(api, run, sampled, asked)
        RunFolder(found.folder).create(run["spec"])
        writer = RunWriter(found.folder)
        for stage, graph in enumerate(GRAPHS):
            document = graph.to_document()
            writer(StageStarted(stage=stage, name="s", topology=document, level=2, steps=9, trainable_parameters=1))
            lines = RolloutsSampled(stage=stage, step=1, rollouts=(sampled[stage],)).to_documents()
            api.tell(rollouts_stream(run["id"]), *lines)
        api.tell(questions_stream(run["id"]), *QuestionsAsked(stage=1, step=0, rollouts=(asked,)).to_documents())
        writer.close()
        yield found


def spelled(rollout: Rollout, node: str) -> str:
    call = next(call for call in rollout.calls if call.node == node)
    return make_renderer(PromptSpec(), resolve_base("tiny")).spell(call.prompt_token_ids)


def test_a_prompt_is_read_as_the_engine_got_it_in_the_graph_of_its_stage(kept: Kept) -> None:
    for entry, rollout in enumerate(kept.sampled):
        for call in rollout.calls:
            answer = kept.prompt(call.node, entry)
            assert answer.json() == {"object": "prompt", "node": call.node, "text": spelled(rollout, call.node)}
            assert len(answer.json()["text"].split()) == len(call.prompt_token_ids)
    assert kept.prompt("n3", stream="questions").json()["text"] == spelled(kept.asked, "n3")
    assert spelled(kept.asked, "n3").endswith("@ L2 N1 | L1 N1 : so A= 3 | L1 N2 : so A= 3 >")


def test_what_was_not_kept_is_not_found(kept: Kept) -> None:
    answer = kept.prompt("n3", entry=0)
    assert (answer.status_code, error_of(answer)["param"]) == (404, "node")
    assert "node 'n3' was not asked" in error_of(answer)["message"]
    path = f"/v1/runs/{kept.run['id']}/rollouts"
    beyond = kept.api.client.get(path).json()["last_id"] + 1
    assert kept.api.client.get(f"{path}/{beyond}/prompt", params={"node": "n1"}).status_code == 404
    assert kept.api.client.get("/v1/runs/run_x/rollouts/1/prompt", params={"node": "n1"}).status_code == 404
    assert kept.api.client.get(f"{path}/0/prompt", params={"node": "n1"}).status_code == 422


def test_a_run_whose_files_are_gone_says_so(kept: Kept) -> None:
    assert kept.prompt("n1").status_code == 200
    shutil.rmtree(kept.folder)
    answer = kept.prompt("n1")
    assert (answer.status_code, error_of(answer)["code"]) == (409, "prompt_lost")
    assert "files of run" in error_of(answer)["message"]


def test_a_base_that_is_gone_or_another_is_told(kept: Kept, word_base: Path) -> None:
    base = kept.api.settings.base_roots[0] / "own"
    shutil.copytree(word_base, base)
    kept.api.put(RunRecord.model_validate(kept.run | {"base": str(base), "folder": f"runs/{kept.run['id']}/small"}))
    assert kept.prompt("n1").json()["text"] == spelled(kept.sampled[0], "n1")
    tokenizer = base / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"WhitespaceSplit"', '"Whitespace"', 1))
    answer = kept.prompt("n1")
    assert (answer.status_code, error_of(answer)["code"]) == (409, "prompt_lost")
    assert "the base is not the one that the run was trained on" in error_of(answer)["message"]
    shutil.rmtree(base)
    answer = kept.prompt("n1")
    assert (answer.status_code, error_of(answer)["code"]) == (409, "prompt_lost")
    assert "is not a folder" in error_of(answer)["message"]


def test_one_caller_has_so_many_prompts_written_at_a_time(kept: Kept) -> None:
    with kept.api.service.prompts.place("other", 2), kept.api.service.prompts.place("third", 1):
        with kept.api.service.prompts.place("fourth", 1):
            answer = kept.prompt("n1")
            assert (answer.status_code, error_of(answer)["code"]) == (429, "too_many_prompts")
        assert kept.prompt("n1").status_code == 200
