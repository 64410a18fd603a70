import json
from pathlib import Path

import pytest

from neuromas.errors import TaskError
from neuromas.tasks.base import Description, Example
from neuromas.tasks.file import FileSpec, FileTask

SUMS = [{"question": f"{n}+1?", "answer": f"{n}+1\n#### {n + 1}", "level": 1 + n % 2} for n in range(6)]


def spec(folder: Path, *, train: object = None, test: object = None, **settings: object) -> FileSpec:
    for name, lines in (("train", train or SUMS), ("test", test or SUMS)):
        text = lines if isinstance(lines, str) else "\n".join(map(json.dumps, lines)) + "\n"
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    document = {
        "type": "file",
        "train": str(folder / "train.jsonl"),
        "test": str(folder / "test.jsonl"),
        "verifier": "number",
    }
    return FileSpec.model_validate(document | settings)


def load(settings: FileSpec, seed: int = 0) -> FileTask:
    task = FileTask(settings, seed)
    task.example("train", 0)
    return task


def test_test_examples_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    task = load(spec(tmp_path))
    assert task.example("test", 2) == Example("test/3", "2+1?", "3")
    assert (task.size("test"), task.size("train"), task.levels) == (6, None, ())
    with pytest.raises(TaskError, match="got test example 6, the split has 6"):
        task.example("test", 6)


def test_every_pass_over_the_training_file_has_each_line_once_in_a_new_order(tmp_path: Path) -> None:
    task = load(spec(tmp_path), seed=3)
    passes = [[task.example("train", 6 * turn + place) for place in range(6)] for turn in range(3)]
    prompts = [[example.prompt for example in one] for one in passes]
    assert all(sorted(one) == [f"{n}+1?" for n in range(6)] for one in prompts)
    assert len({tuple(one) for one in prompts}) == 3
    assert len({example.id for one in passes for example in one}) == 18
    assert [load(spec(tmp_path), seed=3).example("train", index) for index in range(6)] == passes[0]


def test_levels_select_examples_and_the_highest_is_the_target(tmp_path: Path) -> None:
    task = load(spec(tmp_path, level_key="level"))
    assert task.levels == (1, 2)
    assert [task.example("test", index, level=1).prompt for index in range(3)] == ["0+1?", "2+1?", "4+1?"]
    assert task.example("test", 0) == Example("test/2", "1+1?", "2", level=2)
    assert task.size("test") == 3
    with pytest.raises(TaskError, match=r"got level 3, allowed are \(1, 2\)"):
        task.example("train", 0, level=3)


def test_a_label_is_told_from_the_choices_of_its_row(tmp_path: Path) -> None:
    lines = [
        {"question": "Back at the start?", "answer": "True", "choices": ["True", "False"]},
        {"question": "Which colour?", "answer": "dark red", "choices": ["red", "dark red"]},
    ]
    task = load(spec(tmp_path, train=lines, test=lines, verifier="label", choices_key="choices"))
    first, second = (task.example("test", index) for index in range(2))
    assert task.score(first, "Two steps there and two back, so True.") == 1.0
    assert task.score(first, "True? No: false") == 0.0
    assert (task.score(second, "It is dark red"), task.score(second, "It is red")) == (1.0, 0.0)
    assert task.describe(second, "red") == Description("red", correct=False)
    with pytest.raises(ValueError, match="'label' needs choices_key"):
        spec(tmp_path, verifier="label")
    with pytest.raises(TaskError, match="line 1: the verifier 'label' cannot read all of the answer 'Maybe'"):
        load(
            spec(
                tmp_path,
                train=[lines[0] | {"answer": "Maybe"}],
                test=lines,
                verifier="label",
                choices_key="choices",
            )
        )


def test_chance_is_a_guess_among_the_choices_or_the_commonest_answer(tmp_path: Path) -> None:
    def rows(answers: str, choices: str) -> list[dict[str, object]]:
        return [
            {"question": f"{n}?", "answer": answer, "choices": list(choices), "level": 1 + n // 4}
            for n, answer in enumerate(answers)
        ]

    def chance(lines: list[dict[str, object]], level: int | None = None, **settings: object) -> float | None:
        return load(spec(tmp_path, train=lines, test=lines, choices_key="choices", **settings)).chance(level)

    assert chance(rows("aaab", "ab"), verifier="label") == 0.75
    assert chance(rows("abcd", "abcd"), verifier="label") == 0.25
    assert chance(rows("ABCD", "wxyz"), verifier="choice") == 0.25
    both = rows("abcdabab", "abcd")
    found = [chance(both, level, verifier="label", level_key="level") for level in (1, 2, None)]
    assert found == [0.25, 0.5, 0.5]
    several = [{"question": "?", "answer": ["a", "b"], "choices": ["a", "b", "c", "d"]}]
    assert chance(several, verifier="label") == 1.0
    assert load(spec(tmp_path)).chance() is None


def test_answers_are_scored_and_described(tmp_path: Path) -> None:
    task = load(spec(tmp_path))
    example = task.example("test", 3)
    assert task.score(example, "so it is 4.") == 1.0
    assert task.score(example, "so it is 5.") == 0.0
    assert task.score(example, "I pass") == 0.0
    assert task.describe(example, "maybe 4.0") == Description("4", correct=True)
    assert task.describe(example, "maybe 5") == Description("5", correct=False)
    assert task.describe(example, "I pass") is None


def test_keys_can_be_named_and_answers_may_be_numbers(tmp_path: Path) -> None:
    lines = [{"q": "1+1?", "a": 2}]
    task = load(spec(tmp_path, train=lines, test=lines, question_key="q", answer_key="a"))
    assert task.example("test", 0).answer == "2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "a", "answer": "1"}\nnot json', r"train\.jsonl, line 2: not valid JSON"),
        ("[1]", r"line 1: got '\[1\]', expected a JSON object"),
        ('\n{"question": "a"}', r"line 2: no key 'answer' \(task.answer_key\); this line has question"),
        ('{"question": ["a"], "answer": "1"}', r"line 1: got \['a'\] for the key 'question'"),
        ('{"question": "a", "answer": "one"}', "line 1: the verifier 'number' cannot read all of the answer 'one'"),
        ('{"question": "a", "answer": "5 or 6"}', "line 1: the verifier 'number' cannot read all of the answer '5 or"),
        ("\n\n", r"train\.jsonl holds no example"),
    ],
)
def test_a_fault_names_the_file_and_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load(spec(tmp_path, train=text))


def test_levels_must_be_integers_and_in_both_files(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"line 1: got 'x' for the key 'level' \(task.level_key\)"):
        load(spec(tmp_path, train=[{**SUMS[0], "level": "x"}], level_key="level"))
    with pytest.raises(TaskError, match=r"levels \[2\] have examples in one of the two only"):
        load(spec(tmp_path, train=SUMS[:1], level_key="level"))


def test_a_missing_file(tmp_path: Path) -> None:
    settings = spec(tmp_path)
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(TaskError, match=r"task\.test: .*test\.jsonl cannot be read"):
        load(settings)
