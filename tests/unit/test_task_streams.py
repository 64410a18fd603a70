"""The questions of each task are those of earlier runs: a resumed run, a grown one and a figure depend on them."""

from hashlib import blake2b
from pathlib import Path

import pytest

from neuromas.tasks.arithmetic import ArithmeticTask
from neuromas.tasks.base import Split, Task
from neuromas.tasks.chain import ChainTask
from neuromas.tasks.circuit import CircuitTask
from neuromas.tasks.dynamics.task import DynamicsTask
from neuromas.tasks.file import FileSpec
from neuromas.tasks.hidden_tree import HiddenTreeTask
from neuromas.tasks.programs import ProgramsSpec, ProgramsTask
from neuromas.tasks.tree import TreeTask

DRAWN: dict[str, Task] = {
    "chain": ChainTask(hops=5, seed=3),
    "chain, any cycles": ChainTask(hops=9, seed=0, cycles="any"),
    "tree": TreeTask(depth=3, seed=3),
    "circuit": CircuitTask(depth=3, seed=3),
    "arithmetic": ArithmeticTask(depth=3, seed=3),
    "hidden_tree": HiddenTreeTask(depth=4, seed=3),
    "dynamics": DynamicsTask(tier=2, seed=3),
}
DIGESTS = {
    ("chain", "train"): ("f5d4e5e935979983", "a3b34fceb1c5ab1f"),
    ("chain", "test"): ("30c79d140d0d1ac5", "22be44f4d23183ec"),
    ("chain, any cycles", "train"): ("27fd5d69a02d0059", "c6eba9ad1404337d"),
    ("chain, any cycles", "test"): ("e2f0f2b48e404e57", "c8cc852648e6acb8"),
    ("tree", "train"): ("d41788e9b835e0ac", "79f16684cb181564"),
    ("tree", "test"): ("e152002857dd4e95", "2eb5ae9012171f34"),
    ("circuit", "train"): ("ee3b2b5cde8eddca", "0b152c5697e0ac9b"),
    ("circuit", "test"): ("5d968cae0e272056", "5949ed0c3c8f0a69"),
    ("arithmetic", "train"): ("0ef26f1f4b53660b", "a117ce569740c1e6"),
    ("arithmetic", "test"): ("d23ced2cd0178798", "a5a09d0ea1c9f92d"),
    ("hidden_tree", "train"): ("56e8c5f12cc19fb8", "c62add28386ac8a2"),
    ("hidden_tree", "test"): ("8630e389ac7df470", "0cc259c2bc787063"),
    ("dynamics", "train"): ("26d00c1683055ca9", "6f8ec37884a78db5"),
    ("dynamics", "test"): ("c8763abccca58c19", "9ac65d7b1f4a315a"),
}
"""Of the easiest level and of the target."""


def digest(task: Task, split: Split, level: int | None, examples: int) -> str:
    """Return 8 bytes, in hex, of the ids, questions and answers of the first examples."""
    found = (task.example(split, index, level) for index in range(examples))
    told = "\n".join(f"{example.id}\t{example.prompt}\t{example.answer}" for example in found)
    return blake2b(told.encode(), digest_size=8).hexdigest()


@pytest.mark.parametrize("name", list(DRAWN))
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_streams_of_drawn_questions_are_the_same(name: str, split: Split) -> None:
    task = DRAWN[name]
    found = tuple(digest(task, split, level, 24) for level in (task.levels[0], None))
    assert found == DIGESTS[name, split]


def test_the_order_of_a_files_rows_is_the_same(tmp_path: Path) -> None:
    rows = [f'{{"question": "q{n}", "answer": "{n}", "level": {1 + n % 2}}}' for n in range(6)]
    for split in ("train", "test"):
        (tmp_path / split).write_text("\n".join(rows))
    task = FileSpec(type="file", train=str(tmp_path / "train"), test=str(tmp_path / "test"), level_key="level").make(3)
    assert [task.example("train", index, 1).prompt for index in range(7)] == ["q4", "q0", "q2", "q2", "q4", "q0", "q2"]
    assert [task.example("train", index).id for index in range(5)] == [
        "train/4/pass0",
        "train/2/pass0",
        "train/6/pass0",
        "train/4/pass1",
        "train/6/pass1",
    ]


def test_the_order_of_a_files_programs_is_the_same(tmp_path: Path) -> None:
    rows = [f'{{"text": "t{n}", "code": "x = {n}", "test_list": ["assert x == {n}"]}}' for n in range(4)]
    for split in ("train", "test"):
        (tmp_path / split).write_text("\n".join(rows))
    files = {split: str(tmp_path / split) for split in ("train", "test")}
    task = ProgramsTask(ProgramsSpec(type="programs", allow_execution=True, **files), 3)
    assert [task.example("train", index).id for index in range(9)] == [
        "train/3/0",
        "train/4/0",
        "train/1/0",
        "train/2/0",
        "train/2/1",
        "train/3/1",
        "train/4/1",
        "train/1/1",
        "train/4/2",
    ]
