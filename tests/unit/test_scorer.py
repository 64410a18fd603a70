import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from word_batches import make_batch, tokens

from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import TaskError
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.scorer import Scorer, pack
from neuromas.tasks.base import Score, Task
from neuromas.tasks.code import load_code
from neuromas.tasks.judge import judge
from neuromas.topology.builders import chain

VERIFIER = """
import os, time
from neuromas.tasks.base import Example, Score, Task

class Odd(Task):
    "Does to an answer what the answer says."
    scoring_timeout_s = 3.0
    def example(self, split, index, level=None):
        return Example(f"{split}/{index}", "0", "1")
    def score(self, example, text):
        print("noise on stdout")
        match text:
            case "1": return True
            case "2": return 2.0
            case "3": return float("nan")
            case "4": return None
            case "5": raise ZeroDivisionError("by hand")
            case "6": os._exit(9)
            case "7": time.sleep(600)
            case "8": return Score(0.25, {"form": 1, "length": 0.5})
            case "9": return Score(0.25, {"form": float("inf")})
            case "a": return "1"
            case "b": return Score(1.0, {"pid": os.getpid()})
        return 0.0

class Own(Task):
    def __getstate__(self):
        raise TypeError("holds a lock")
"""

BAD = {
    "2": "odd_verifier.Odd.score returned reward 2.0; allowed is 0 to 1",
    "3": "odd_verifier.Odd.score returned reward nan; expected a finite number",
    "4": "odd_verifier.Odd.score returned reward None; expected a finite number",
    "5": "odd_verifier.Odd.score raised ZeroDivisionError: by hand",
    "9": "odd_verifier.Odd.score returned part 'form' inf; expected a finite number",
    "a": "odd_verifier.Odd.score returned reward '1'; expected a finite number",
}


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    (tmp_path / "odd_verifier.py").write_text(VERIFIER)
    monkeypatch.syspath_prepend(str(tmp_path))
    task: Task = load_code("odd_verifier:Odd", "here")()
    return task


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    made = Scorer()
    yield made
    made.close()


def test_a_bad_return_is_told_in_words(odd: Task) -> None:
    example = odd.example("train", 0)
    assert judge(odd, example, "1") == Score(1.0)
    assert judge(odd, example, "8") == Score(0.25, {"form": 1.0, "length": 0.5})
    for text, message in BAD.items():
        with pytest.raises(TaskError) as caught:
            judge(odd, example, text)
        assert str(caught.value) == message


def test_answers_are_scored_in_processes_of_their_own(odd: Task, scorer: Scorer) -> None:
    packed, example = pack(odd), odd.example("train", 0)
    scores = {text: scorer.submit(odd, packed, example, text) for text in ("1", "8", "0", *BAD)}
    assert scores["1"].result() == Score(1.0)
    assert scores["0"].result() == Score(0.0)
    assert scores["8"].result() == Score(0.25, {"form": 1.0, "length": 0.5})
    for text, message in BAD.items():
        assert str(scores[text].exception()) == message


def test_a_crash_and_a_hang_cost_one_answer_each(odd: Task, scorer: Scorer) -> None:
    packed, example = pack(odd), odd.example("train", 0)
    scores = [scorer.submit(odd, packed, example, text) for text in "6171671"]
    found = [score.exception() for score in scores]
    assert [error is None for error in found] == [False, True, False, True, False, False, True]
    assert str(found[0]) == "the process that was scoring ended by itself (exit status 9)"
    assert str(found[2]) == "scoring took longer than 3 s (scoring_timeout_s)"


def test_a_rollout_whose_scoring_fails_has_failed_and_the_batch_goes_on(
    odd: Task, scorer: Scorer, renderer: object
) -> None:
    said = iter(["1", "6", "7", "5", "1", "2"])
    engine = ScriptedEngine(lambda call: tokens(next(said)))
    flow = Dataflow(engine, renderer, scorer)  # type: ignore[arg-type]
    (group,) = flow.run(odd, make_batch(chain(1), group_size=6))
    assert [rollout.reward for rollout in group.rollouts] == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert [rollout.failure is None for rollout in group.rollouts] == [True, False, False, False, True, False]
    assert [rollout.answer for rollout in group.rollouts] == ["1", "6", "7", "5", "1", "2"]
    assert flow.stats.failed_rollouts == 4
    assert not flow.has_unfinished


def test_the_engine_goes_on_while_an_answer_is_scored(odd: Task, scorer: Scorer, renderer: object) -> None:
    # The first answer hangs for three seconds in its scorer; the others are sampled and scored meanwhile.
    engine = ScriptedEngine(lambda call: tokens("7" if call.id.startswith("0.") else "1"))
    flow = Dataflow(engine, renderer, scorer)  # type: ignore[arg-type]
    first = flow.add(odd, make_batch(chain(1)))
    order = [key for key, _ in flow.advance()]
    flow.add(odd, make_batch(chain(2), group_size=3))
    while flow.has_unfinished:
        order += [key for key, _ in flow.advance()]
    assert order[-1] == first
    assert len(order) == 4


def test_what_was_cancelled_is_not_returned(odd: Task, scorer: Scorer, renderer: object) -> None:
    flow = Dataflow(ScriptedEngine(lambda call: tokens("7")), renderer, scorer)  # type: ignore[arg-type]
    key = flow.add(odd, make_batch(chain(1)))
    assert flow.advance() == []
    assert flow.has_unfinished
    flow.cancel([key])
    assert not flow.has_unfinished


def test_closing_ends_the_processes_and_what_they_wait_for(odd: Task) -> None:
    scorer = Scorer(processes=1)
    packed, example = pack(odd), odd.example("train", 0)
    pid = int(scorer.submit(odd, packed, example, "b").result().parts["pid"])
    os.kill(pid, 0)
    scorer.close()
    scorer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_task_that_cannot_be_sent_is_refused_with_the_way_out(odd: Task) -> None:
    own = load_code("odd_verifier:Own", "here")()
    with pytest.raises(TaskError, match=r"Own cannot be pickled.*holds a lock.*return None from scoring_timeout_s"):
        pack(own)


def test_a_task_that_is_not_there_in_the_process_is_told(scorer: Scorer, odd: Task) -> None:
    packed = pickle.dumps(odd).replace(b"odd_verifier", b"odd_notthere")
    with pytest.raises(TaskError, match="loading the task failed"):
        scorer.submit(odd, packed, odd.example("train", 0), "1").result()
