"""What is said of a task's questions before a run, at the default settings."""

import json
import sys
from pathlib import Path

import pytest

from neuromas.checkpoints.trained import find_trained
from neuromas.errors import SpecError
from neuromas.run.preflight import Preflight, check_run
from neuromas.spec.parse import parse_run_spec


def look(folder: Path, train: list[str], test: list[str], *, answer: str = "1", **changes: object) -> Preflight:
    for split, questions in (("train", train), ("test", test)):
        rows = [{"question": question, "answer": answer} for question in questions]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = {"type": "file", "train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")}
    return check_run(parse_run_spec({"topology": {"chain": 2}, "task": task, **changes}), find_trained)


def questions(split: str, count: int) -> list[str]:
    """Questions of digits and one mark, all different; what the tiny base knows."""
    return [f"{'A=' if split == 'train' else 'B='} {' '.join(str(number))}" for number in range(count)]


def test_nothing_is_said_of_questions_that_fit(tmp_path: Path) -> None:
    assert look(tmp_path, questions("train", 20), questions("test", 10)).notes == ()
    spec = parse_run_spec({"topology": {"chain": 2}, "task": {"type": "chain", "hops": 3}})
    assert check_run(spec, find_trained).notes == ()


def test_words_that_the_base_does_not_know(tmp_path: Path) -> None:
    found = look(tmp_path, [*questions("train", 4), "What is Paris ?"], questions("test", 4)).notes
    assert found == (
        "1 of 9 questions hold words that the base does not know and reads as one unknown token: 'What is Paris ?'",
    )


def test_what_is_trained_on_and_held_out_too(tmp_path: Path) -> None:
    same = questions("train", 6)
    (shared,) = look(tmp_path, same, same[:2] + questions("test", 4)).notes
    assert shared.startswith("2 of 6 questions to train on are held out too, so accuracies show memory: 'A= 0'")
    (repeated,) = look(tmp_path, same, questions("test", 4) * 2).notes
    assert repeated.startswith("4 of 8 questions held out repeat another")


@pytest.mark.parametrize(("same", "found"), [(9, ("0.900",)), (8, ())])
def test_a_task_on_which_a_guess_earns_nearly_all(tmp_path: Path, same: int, found: tuple[str, ...]) -> None:
    for split in ("train", "test"):
        rows = [
            {"question": question, "answer": "A" if place < same else "B", "choices": ["A", "B"]}
            for place, question in enumerate(questions(split, 10))
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    task = {"type": "file", **files, "verifier": "label", "choices_key": "choices"}
    notes = check_run(parse_run_spec({"topology": {"chain": 2}, "task": task}), find_trained).notes
    said = "a guess that needs no work on the question earns {} of 1, so there is little to learn"
    assert notes == tuple(map(said.format, found))


@pytest.mark.parametrize("chance", ["1.2", "-0.1", "float('nan')"])
def test_a_chance_that_is_no_mean_of_rewards_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: str
) -> None:
    code = "from neuromas.tasks.chain import ChainTask\n\nclass Odd(ChainTask):\n    def chance(self, level=None):\n"
    (tmp_path / "odd_chance.py").write_text(f"{code}        return {chance}\n\ndef make(seed):\n    return Odd()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "odd_chance", raising=False)
    spec = parse_run_spec({"topology": {"chain": 2}, "task": {"type": "python", "factory": "odd_chance:make"}})
    with pytest.raises(SpecError, match="a mean of rewards is 0 to 1, or None where nobody knows it"):
        check_run(spec, find_trained)


def test_an_answer_that_cannot_be_said(tmp_path: Path) -> None:
    long = " ".join("1" * 9)
    (found,) = look(tmp_path, questions("train", 4), questions("test", 4), answer=long).notes
    assert found.startswith("8 of 8 questions have an answer longer than the 8 tokens that the output node may say")
    settings = {"topology": {"chain": 2, "max_tokens": 9}}
    assert look(tmp_path, questions("train", 4), questions("test", 4), answer=long, **settings).notes == ()


def test_all_questions_are_measured_not_the_first(tmp_path: Path) -> None:
    long = " ".join("7" * 200)
    found = look(tmp_path, [*questions("train", 9), long], questions("test", 5))
    (note,) = found.notes
    assert note.startswith("1 of 10 train questions do not fit: node 'n2' of the graph with 2 nodes may need ")
    assert note.endswith("engine.max_model_len is 128; they fail in training")
    assert found.longest_call > 200
    (note,) = look(tmp_path, questions("train", 9), [*questions("test", 9), long]).notes
    assert "1 of 10 test questions do not fit" in note
    assert note.endswith("they are left out of accuracies")


def test_more_long_questions_than_a_run_may_lose_are_refused(tmp_path: Path) -> None:
    long = [" ".join("7" * (200 + n)) for n in range(4)]
    with pytest.raises(SpecError) as caught:
        look(tmp_path, [*questions("train", 6), *long], questions("test", 4))
    (fault,) = caught.value.faults
    assert fault.path == "engine.max_model_len"
    assert fault.message.startswith("got 128, but 4 of 10 train questions do not fit")


def test_files_that_are_not_asked_for_need_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"question": "B= 1", "answer": "1"}')
    task = {"type": "file", "train": str(tmp_path / "gone"), "test": str(tmp_path / "test.jsonl")}
    spec = parse_run_spec({"topology": {"chain": 2}, "task": task})
    assert check_run(spec, find_trained, ("test",)).notes == ()
    (tmp_path / "test.jsonl").unlink()
    assert check_run(spec, find_trained, ()).longest_call == 0
    with pytest.raises(SpecError, match="cannot be read"):
        check_run(spec, find_trained, ("test",))
