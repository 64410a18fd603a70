"""A run whose task rewards nothing says so among its events."""

from pathlib import Path

import pytest

from neuromas.journal import lines as journal
from neuromas.run.run import run
from neuromas.spec.parse import parse_run_spec

TASK = """
from neuromas.tasks.chain import ChainTask

class Nothing(ChainTask):
    def score(self, example, text):
        return 0.0

def make(seed):
    return Nothing(hops=2, seed=seed)
"""


def test_a_run_without_any_reward_warns_once(small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rewards_nothing.py").write_text(TASK)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = {
        "name": "hopeless",
        "base": str(small_base),
        "topology": {"chain": 2},
        "task": {"type": "python", "factory": "rewards_nothing:make"},
        "training": {"steps": 6, "prompts_per_step": 2, "group_size": 2},
        "engine": {"type": "transformers"},
        "runtime": {"type": "local"},
        "evaluation": {"examples": 4},
    }
    folder = run(parse_run_spec(spec), tmp_path / "runs").folder
    events = list(journal.read(folder / "events.jsonl"))
    told = [event for event in events if event["type"] == "notice" and event["source"] == "gradient"]
    assert [(event["severity"], event["data"]) for event in told] == [("warning", {"stage": 0, "step": 5})]
    assert told[0]["message"] in (folder / "report.html").read_text(encoding="utf-8")
