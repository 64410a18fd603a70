import json
import pickle
from pathlib import Path

import pytest

from neuromas.errors import SpecError, TaskError
from neuromas.tasks.base import Score
from neuromas.tasks.programs import ProgramsTask, code_in, program_in
from neuromas.tasks.registry import make_task, task_spec

ADD = {
    "task_id": "HumanEval/0",
    "prompt": 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef add(a: int, b: int) -> int:\n    """ Add. """\n',
    "entry_point": "add",
    "canonical_solution": "    return helper(a) + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(0, helper(5)) == 5\n",
}
REVERSE = {
    "text": "Write a function to reverse a list.",
    "code": "def turned(items):\n    return items[::-1]\n",
    "test_list": ["assert turned([1, 2]) == [2, 1]", "assert turned([]) == []"],
    "test_setup_code": "import math",
}


def make(folder: Path, train: object = REVERSE, test: object = ADD, **settings: object) -> ProgramsTask:
    for name, row in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    paths = {name: str(folder / f"{name}.jsonl") for name in ("train", "test")}
    task = make_task(task_spec({"type": "programs", "allow_execution": True, **paths, **settings}), seed=0)
    assert isinstance(task, ProgramsTask)
    return task


@pytest.mark.parametrize(
    ("text", "reward", "compiles"),
    [
        (ADD["canonical_solution"], 1, 1),
        ("return a + b", 1, 1),  # messages lose the blanks they begin with
        ("return a + b\n\n# the end\nprint(add(1, 2)", 1, 1),
        (f"Sure:\n```python\n{ADD['prompt']}    return a + b\n```\nThat is it.", 1, 1),
        ("```\ndef add(a, b):\n    return helper(a) + b\n", 1, 1),
        ("def add(a, b):\n    return math.floor(a + b)", 1, 1),
        ("return a - b", 0, 1),
        ("pass", 0, 1),
        ("raise AssertionError", 0, 1),
        ("I do not know.", 0, 0),
        ("", 0, 1),
    ],
)
def test_a_body_or_a_function_is_scored_by_humanevals_tests(
    text: str, reward: float, compiles: float, tmp_path: Path
) -> None:
    task = make(tmp_path)
    assert task.score(task.example("test", 0), text) == Score(reward, {"compiles": compiles})


def test_mbpps_asserts_are_shown_and_scored(tmp_path: Path) -> None:
    task = make(tmp_path)
    example = task.example("train", 3)
    assert example.prompt == (
        "Write a function to reverse a list.\nYour code should pass these tests:\n"
        "assert turned([1, 2]) == [2, 1]\nassert turned([]) == []"
    )
    assert (example.id, example.answer) == ("train/1/3", REVERSE["code"])
    assert task.score(example, str(REVERSE["code"])).reward == 1
    assert task.score(example, "def turned(x): return list(reversed(x))").reward == 1
    assert task.score(example, "def turned(x): return x").reward == 0


def test_a_task_travels_without_its_examples(tmp_path: Path) -> None:
    task = make(tmp_path)
    example = task.example("test", 0)
    again = pickle.loads(pickle.dumps(task))
    (tmp_path / "test.jsonl").unlink()
    assert again.score(example, "return a + b").reward == 1
    assert (task.size("test"), task.size("train"), task.levels, task.chance()) == (1, None, (), 0.0)


def test_nothing_runs_unless_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"set task\.allow_execution = true to agree"):
        make(tmp_path, allow_execution=False)


def test_a_service_needs_its_operators_consent(tmp_path: Path) -> None:
    assert make(tmp_path).spec.code() == {"allow_execution": "neuromas.tasks.sandbox:check"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "?"}, r"test.jsonl, line 1: has question; expected the names of a row of HumanEval or MBPP"),
        (ADD | {"test": 3}, r"test.jsonl, line 1: got '3' for test; expected text"),
        (
            REVERSE | {"test_list": []},
            r"test.jsonl, line 1: got test_list '\[\]'; expected a list of assert",
        ),
    ],
)
def test_rows_of_another_kind_are_told_by_file_and_line(row: object, message: str, tmp_path: Path) -> None:
    task = make(tmp_path, test=row)
    with pytest.raises(TaskError, match=message):
        task.example("test", 0)


def test_the_last_fenced_block_is_the_program() -> None:
    assert code_in("```python\na\n```\nbetter:\n```py\nb\n```") == "b\n"
    assert code_in("no block") == "no block"


def test_a_body_ends_where_a_line_is_not_indented() -> None:
    question = 'def f(x):\n    """ Twice. """\n'
    assert program_in("y = 2 * x\n\n    return y\nprint(f(2))\n    junk", question, "f") == (
        'def f(x):\n    """ Twice. """\n    y = 2 * x\n\n    return y\n'
    )
