from pathlib import Path

from neuromas.tasks.chain import ChainSpec, ChainTask
from neuromas.tasks.file import FileSpec
from neuromas.tasks.registry import make_task
from neuromas.tasks.tree import TreeSpec, TreeTask


def test_rule_tasks_take_their_target_level_and_the_seed() -> None:
    assert make_task(ChainSpec(type="chain", hops=7), seed=3) == ChainTask(hops=7, seed=3)
    assert make_task(TreeSpec(type="tree", depth=2), seed=4) == TreeTask(depth=2, seed=4)


def test_file_task(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "Who?", "answer": "Me."}\n')
    path = str(tmp_path / "a.jsonl")
    task = make_task(FileSpec(type="file", train=path, test=path), seed=0)
    assert task.name == "file"
    assert task.score(task.example("test", 0), "me") == 1.0
