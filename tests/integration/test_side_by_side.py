import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from neuromas.journal.events import CheckpointWritten, Event, RunEnded, RunStarted, StepDone
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.studies.side_by_side import SideBySideError, run_side_by_side


def make_spec(name: str, base: Path, nodes: int) -> RunSpec:
    return parse_run_spec(
        {
            "name": name,
            "base": str(base),
            "topology": {"chain": nodes},
            "task": {"type": "chain", "hops": 2},
            "training": {"steps": 1, "prompts_per_step": 2, "group_size": 2, "drop_zero_variance": False},
            "evaluation": {"examples": 4},
            "engine": {"type": "transformers"},
            "runtime": {"type": "local"},
        }
    )


def test_runs_follow_each_other_in_one_process_and_are_not_repeated(small_base: Path, tmp_path: Path) -> None:
    specs = [make_spec("one", small_base, 1), make_spec("two", small_base, 2)]
    told: list[tuple[str, Event]] = []
    results = run_side_by_side(specs, tmp_path, lambda job, event: told.append((job, event)))
    assert [len(results[name]["topology"]["nodes"]) for name in ("one", "two")] == [1, 2]
    assert [job for job, event in told if isinstance(event, RunEnded)] == ["one", "two"]
    told.clear()
    again = run_side_by_side(specs, tmp_path, lambda job, event: told.append((job, event)))
    assert again == results
    assert [(job, type(event)) for job, event in told] == [("one", RunEnded), ("two", RunEnded)]


def test_a_run_that_fails_names_itself_and_its_reason(tmp_path: Path) -> None:
    with pytest.raises(SideBySideError, match=r"run 'lost' failed: (?s:.)*nowhere is not a folder"):
        run_side_by_side([make_spec("lost", tmp_path / "nowhere", 1)], tmp_path, lambda job, event: None)


def test_a_process_that_dies_is_told_with_its_log(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        import os

        from neuromas.tasks.base import Example, Task

        class Deadly(Task):
            def __init__(self, seed):
                pass

            def example(self, split, index, level=None):
                if split == "train":
                    os._exit(7)
                return Example(f"{split}/{index}", f"{split} {index}", "1")

            def score(self, example, text):
                return 0.0
        """
    (tmp_path / "deadly.py").write_text(dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    spec = make_spec("lost", small_base, 1)
    task = {"type": "python", "factory": "deadly:Deadly"}
    spec = parse_run_spec(spec.model_dump(mode="json") | {"task": task})
    with pytest.raises(SideBySideError, match=r"run 'lost' failed: its process ended by itself \(exit status 7\)"):
        run_side_by_side([spec], tmp_path / "out", lambda job, event: None)


def test_a_script_that_compares_is_executed_once(small_base: Path, tmp_path: Path) -> None:
    source = f"""
        import neuromas as nm

        print("begun")
        spec = nm.parse_run_spec({make_spec("pair", small_base, 1).model_dump(mode="json")!r})
        found = nm.compare(spec, ["graph", "untrained"], "out", on_event=lambda run, event: None)
        print(len(found.document["groups"][0]["arms"]))
        """
    script = tmp_path / "script.py"
    script.write_text(dedent(source))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun") == 1
    assert done.stdout.splitlines()[-1] == "2"


def test_a_run_that_was_broken_off_goes_on(small_base: Path, tmp_path: Path) -> None:
    spec = parse_run_spec(make_spec("long", small_base, 1).model_dump(mode="json") | {"checkpoint": {"every": 1}})
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"steps": 4})})

    def break_off(run: str, event: Event) -> None:
        if isinstance(event, CheckpointWritten):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([spec], tmp_path, break_off)
    told: list[Event] = []
    run_side_by_side([spec], tmp_path, lambda run, event: told.append(event))
    assert [event.resumed for event in told if isinstance(event, RunStarted)] == [True]
    steps = [event.step for event in told if isinstance(event, StepDone)]
    assert steps == list(range(steps[0], 5))
    assert steps[0] > 1


@pytest.mark.parametrize(("at_a_time", "threads"), [(1, "2"), (2, "1")])
def test_a_run_that_is_alone_has_all_threads(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: int, threads: str
) -> None:
    source = """
        import os

        from neuromas.tasks.base import Task

        class Told(Task):
            def __init__(self, seed):
                raise ValueError(f"threads: {os.environ['OMP_NUM_THREADS']}")
        """
    (tmp_path / "told_threads.py").write_text(dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    document = make_spec("alone", small_base, 1).model_dump(mode="json")
    spec = parse_run_spec(document | {"task": {"type": "python", "factory": "told_threads:Told"}})
    with pytest.raises(SideBySideError, match=f"threads: {threads}"):
        run_side_by_side([spec], tmp_path / "out", lambda run, event: None, at_a_time)
