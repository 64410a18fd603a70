"""Stop texts of a run: they end every message, whatever tokens spell them, and records hold the tokens up to them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from letter_base import write_letter_base

from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import SpecError
from neuromas.rollout.answer import AnswerSettings
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.engine import EngineCall
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Provenance, Rollout
from neuromas.spec.parse import parse_section
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.tasks.base import Example
from neuromas.tasks.chain import ChainTask
from neuromas.topology.builders import chain

END = 256


def roll_out(
    folder: Path, stop: Sequence[str], text: str, max_tokens: int = 12, settings: AnswerSettings | None = None
) -> tuple[Rollout, str]:
    """Return a rollout of two nodes that both say ``text``, one character per engine step, and its streamed pieces."""
    renderer = make_renderer(PromptSpec(stop=tuple(stop)), write_letter_base(folder))

    def say(call: EngineCall) -> Sequence[int]:
        return [ord(char) for char in text]

    graph = chain(2)
    engine = ScriptedEngine(say, delay=lambda call: len(text) + 1, stop_token_id=END)
    flow = Dataflow(engine, renderer)
    batch = RolloutBatch(
        topology=graph,
        examples=(Example("x", "Which?", "B"),),
        group_size=1,
        adapters=dict.fromkeys(graph.adapters),
        sampling=SamplingSpec(max_tokens=max_tokens),
        greedy=True,
        seed=0,
        provenance=Provenance("run", 0, 0),
    )
    flow.add(ChainTask(hops=2), batch, settings=settings or AnswerSettings())
    rollouts, pieces = [], []
    while flow.has_unfinished:
        rollouts += flow.advance()
        pieces += [piece for _, piece in flow.pieces()]
    assert not engine.has_unfinished()
    return rollouts[0][1], "".join(pieces)


@pytest.mark.parametrize(
    ("stop", "said", "text", "kept"),
    [
        (["\n"], " 5\nTask:\n2", "5", " 5\n"),
        (["\n"], "\nTask:", "", "\n"),
        (["END"], "so 7 END it", "so 7", "so 7 END"),
        (["\n\n"], "a\nb\n\nc", "a\nb", "a\nb\n\n"),
        (["ab", "\n"], "xaab\n", "xa", "xaab"),
        (["é"], "caféx", "caf", "café"),
    ],
)
def test_every_message_ends_with_the_token_that_completes_a_stop_text(
    tmp_path: Path, stop: list[str], said: str, text: str, kept: str
) -> None:
    rollout, _ = roll_out(tmp_path, stop, said)
    for call in rollout.calls:
        assert "".join(map(chr, call.completion_token_ids)) == kept
        assert len(call.logprobs) == len(kept)
        assert (call.text, call.finish_reason) == (text, "stop")
    assert rollout.answer == text
    assert "".join(map(chr, rollout.calls[1].prompt_token_ids)).endswith(f"position 1:\n{text}\n\nAnswer:")


def test_a_message_without_a_stop_text_ends_by_its_end_token_or_its_budget(tmp_path: Path) -> None:
    rollout, _ = roll_out(tmp_path, ["\n", "END"], "so 7 E")
    assert [(call.text, call.finish_reason) for call in rollout.calls] == [("so 7 E", "stop")] * 2
    assert rollout.calls[0].completion_token_ids[-1] == END
    rollout, _ = roll_out(tmp_path, ["\n", "END"], "so 7 E", max_tokens=4)
    assert [(call.text, call.finish_reason) for call in rollout.calls] == [("so 7", "length")] * 2


@pytest.mark.parametrize("stop", [["\n"], ["END"]])
def test_a_stop_text_that_fills_the_budget_is_the_reason(tmp_path: Path, stop: list[str]) -> None:
    said = f"so{stop[0]} and"
    rollout, _ = roll_out(tmp_path, stop, said, max_tokens=2 + len(stop[0]))
    assert [(call.text, call.finish_reason) for call in rollout.calls] == [("so", "stop")] * 2


@pytest.mark.parametrize("stop", [["\n"], ["END"]])
def test_a_streamed_answer_tells_nothing_behind_a_stop_text(tmp_path: Path, stop: list[str]) -> None:
    rollout, told = roll_out(tmp_path, stop, f"so 7{stop[0]} and", settings=AnswerSettings(is_streamed=True))
    assert told == rollout.answer == "so 7"


def test_a_clients_stop_text_ends_the_answer_alone(tmp_path: Path) -> None:
    rollout, told = roll_out(tmp_path, ["\n"], "a; b\nc", settings=AnswerSettings(is_streamed=True, stop=(";",)))
    assert (rollout.calls[0].text, rollout.answer, told) == ("a; b", "a", "a")


def test_an_empty_stop_text_is_refused() -> None:
    with pytest.raises(SpecError, match="stop holds an empty text"):
        parse_section(PromptSpec, {"stop": ["\n", ""]})


def test_a_clients_budget_changes_no_prompt(tmp_path: Path) -> None:
    own, _ = roll_out(tmp_path, [], "so 7")
    asked, _ = roll_out(tmp_path, [], "so 7", settings=AnswerSettings(max_tokens=2))
    assert [call.prompt_token_ids for call in asked.calls] == [call.prompt_token_ids for call in own.calls]
    assert (own.answer, asked.answer) == ("so 7", "so")
