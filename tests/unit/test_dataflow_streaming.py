"""The dataflow for served graphs: streamed answers, stop texts, cancelled rollouts; training stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from neuromas.base.symbols import symbols
from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import EngineError, RolloutError
from neuromas.rollout.answer import AnswerSettings
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.engine import EngineCall
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Provenance, Rollout
from neuromas.rollout.renderer import Renderer
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.tasks.chain import ChainTask
from neuromas.topology.builders import chain, layered
from neuromas.topology.graph import Topology

TASK = ChainTask(hops=2)
PLACE = {symbol: place for place, symbol in enumerate(symbols())}


@pytest.fixture(scope="session")
def renderer(word_base: Path) -> Renderer:
    return make_renderer(PromptSpec(), word_base)


def say(text: str) -> Callable[[EngineCall], Sequence[int]]:
    return lambda call: [PLACE[word] for word in text.split()]


def batch(topology: Topology, group_size: int = 1) -> RolloutBatch:
    return RolloutBatch(
        topology=topology,
        examples=(TASK.example("test", 0),),
        group_size=group_size,
        adapters=dict.fromkeys(topology.adapters),
        sampling=SamplingSpec(max_tokens=6),
        greedy=True,
        seed=0,
        provenance=Provenance("run", 0, 0),
    )


def drive(flow: Dataflow) -> tuple[dict[int, list[str]], dict[int, Rollout]]:
    """Advance to the end; return the pieces told before, and the rollouts, by key."""
    pieces: dict[int, list[str]] = {}
    rollouts: dict[int, Rollout] = {}
    while flow.has_unfinished:
        done = flow.advance()
        for key, piece in flow.pieces():
            assert key not in rollouts, "a piece after the end"
            pieces.setdefault(key, []).append(piece)
        rollouts.update(done)
    return pieces, rollouts


def test_only_the_output_of_a_streamed_rollout_is_streamed(renderer: Renderer) -> None:
    engine = ScriptedEngine(say("1 2 3 4"), delay=lambda call: 5)
    flow = Dataflow(engine, renderer)
    streamed = flow.add(TASK, batch(layered([2])), settings=AnswerSettings(is_streamed=True))
    plain = flow.add(TASK, batch(layered([2])))
    pieces, rollouts = drive(flow)
    assert [call.id for _, call in engine.history if call.is_streamed] == [f"{streamed}.n3"]
    assert pieces == {streamed: ["1", " 2", " 3", " 4"]}
    assert rollouts[streamed].answer == rollouts[plain].answer == "1 2 3 4"
    assert rollouts[streamed].calls[-1].completion_token_ids == rollouts[plain].calls[-1].completion_token_ids


def test_training_never_asks_for_partial_results(renderer: Renderer) -> None:
    class Strict(ScriptedEngine):
        def partials(self) -> list:
            raise AssertionError("asked for partial results")

    groups = Dataflow(Strict(say("1 2"), delay=lambda call: 3), renderer).run(TASK, batch(chain(3), group_size=4))
    assert [rollout.answer for rollout in groups[0].rollouts] == ["1 2"] * 4


def test_an_answer_ends_at_its_stop_text_and_leaves_the_engine(renderer: Renderer) -> None:
    engine = ScriptedEngine(say("1 2 3 4"), delay=lambda call: 5)
    flow = Dataflow(engine, renderer)
    key = flow.add(TASK, batch(chain(2)), settings=AnswerSettings(stop=("3",)))
    pieces, rollouts = drive(flow)
    assert pieces == {}
    rollout = rollouts[key]
    assert rollout.answer == "1 2 "
    assert rollout.failure is None
    hidden, output = rollout.calls
    assert (hidden.text, hidden.finish_reason) == ("1 2 3 4", "stop")  # stop texts are about the answer alone
    assert (output.finish_reason, len(output.completion_token_ids), len(output.logprobs)) == ("stop", 3, 3)
    assert not engine.has_unfinished()


def test_a_stop_text_at_the_budget_counts_as_the_reason(renderer: Renderer) -> None:
    flow = Dataflow(ScriptedEngine(say("1 2 3 4")), renderer)
    settings = AnswerSettings(is_streamed=True, stop=("3",), max_tokens=3)
    key = flow.add(TASK, batch(chain(1)), settings=settings)
    pieces, rollouts = drive(flow)
    assert "".join(pieces[key]) == rollouts[key].answer == "1 2 "
    assert rollouts[key].calls[-1].finish_reason == "stop"


def test_a_budget_for_the_answer_leaves_the_other_messages_alone(renderer: Renderer) -> None:
    flow = Dataflow(ScriptedEngine(say("1 2 3 4")), renderer)
    key = flow.add(TASK, batch(chain(2)), settings=AnswerSettings(max_tokens=2))
    _, rollouts = drive(flow)
    assert [(call.text, call.finish_reason) for call in rollouts[key].calls] == [("1 2 3 4", "stop"), ("1 2", "length")]


def test_cancelled_rollouts_leave_the_engine_and_no_other(renderer: Renderer) -> None:
    engine = ScriptedEngine(say("1"), delay=lambda call: 3)
    flow = Dataflow(engine, renderer)
    settings = AnswerSettings(is_streamed=True)
    keys = [flow.add(TASK, batch(layered([2, 2])), settings=settings) for _ in range(3)]
    flow.advance()
    flow.cancel([keys[0], keys[0], 99])
    for _ in range(7):
        flow.advance()
    flow.cancel([keys[2]])  # while its output Node is at it
    _, rollouts = drive(flow)
    assert set(rollouts) == {keys[1]}
    assert len(rollouts[keys[1]].calls) == 5
    assert not engine.has_unfinished()
    assert {call.id.split(".")[0] for step, call in engine.history if step > 2} == {"1", "2"}


def test_a_failure_before_the_answer_tells_no_piece(renderer: Renderer) -> None:
    def respond(call: EngineCall) -> Sequence[int]:
        raise EngineError("broken")

    flow = Dataflow(ScriptedEngine(respond), renderer)
    key = flow.add(TASK, batch(chain(1)), settings=AnswerSettings(is_streamed=True))
    pieces, rollouts = drive(flow)
    assert pieces == {}
    assert rollouts[key].failure == "node 'n1': broken"


def test_each_batch_may_bring_its_own_renderer(renderer: Renderer, word_base: Path) -> None:
    plain = make_renderer(PromptSpec(renderer="plain", instruction="find"), word_base)
    engine = ScriptedEngine(say("1"))
    flow = Dataflow(engine)
    for one in (renderer, plain):
        flow.add(TASK, batch(chain(1)), renderer=one)
    drive(flow)
    (_, first), (_, second) = engine.history
    assert first.prompt_token_ids[0] == PLACE["<bos>"]
    assert second.prompt_token_ids[0] == PLACE["find"]
    with pytest.raises(RolloutError, match="renderer"):
        flow.add(TASK, batch(chain(1)))
