"""What a run writes survives a kill at any moment, and two writers never meet."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neuromas.errors import CheckpointError
from neuromas.journal import lines as journal
from neuromas.journal.events import CheckpointWritten, Notice, QuestionsAsked, RolloutsSampled, StepDone
from neuromas.journal.folder import LOCK_FILE, RunFolder, RunWriter, locked
from neuromas.rollout.record import NodeCall, Provenance, Rollout
from neuromas.tasks.base import Example


def step(number: int, stage: int = 0) -> StepDone:
    return StepDone(stage=stage, step=number, metrics={"rollout/reward_mean": number / 10}, time_s=5.0)


def rollout(reward: float) -> Rollout:
    call = NodeCall("n1", None, (1, 2, 3), (4, 5), (-0.5, -0.25), "stop", "so A= 7 .")
    example = Example("e1", "start 2 find A=", "7", level=1)
    return Rollout("hash", Provenance("r", 0, 1), example, 0, 11, (call,), "so A= 7 .", reward)


def test_events_go_to_their_files(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    writer(step(1))
    writer(RolloutsSampled(stage=0, step=1, rollouts=(rollout(1.0),)))
    writer(CheckpointWritten(stage=0, step=1, path="checkpoints/stage-0-000001", time_s=6.0))
    writer.close()
    assert list(journal.read(tmp_path / "metrics.jsonl")) == [
        {"stage": 0, "step": 1, "time_s": 5.0, "rollout/reward_mean": 0.1}
    ]
    assert list(journal.read(tmp_path / "events.jsonl")) == [
        {"type": "checkpoint", "time_s": 6.0, "stage": 0, "step": 1, "path": "checkpoints/stage-0-000001"}
    ]
    (line,) = journal.read(tmp_path / "rollouts.jsonl")
    assert (line["question"], line["expected"], line["answer"], line["reward"]) == (
        "start 2 find A=",
        "7",
        "so A= 7 .",
        1.0,
    )
    assert line["messages"] == [
        {
            "node": "n1",
            "adapter": None,
            "text": "so A= 7 .",
            "finish_reason": "stop",
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "logprob": -0.75,
        }
    ]


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "rew')
    assert list(journal.read(path)) == [{"step": 1}]
    file = journal.Journal(path)
    file.append({"step": 2})
    file.close()
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_nan_is_refused(tmp_path: Path) -> None:
    file = journal.Journal(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="JSON compliant"):
        file.append({"train/loss": float("nan")})
    file.close()


def test_cut_back_keeps_what_the_checkpoint_holds(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    for number in (1, 2, 3):
        writer(step(number))
    for number in (1, 2, 3):
        writer(step(number, stage=1))
        writer(RolloutsSampled(stage=1, step=number, rollouts=(rollout(0.0),)))
        writer(QuestionsAsked(stage=1, step=number, rollouts=(rollout(1.0),)))
    writer(Notice(message="kept: events are a history"))
    writer.close()
    RunFolder(tmp_path).cut_back(stage=1, step=2)
    kept = [(line["stage"], line["step"]) for line in journal.read(tmp_path / "metrics.jsonl")]
    assert kept == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    assert [(line["step"], line["reward"]) for line in journal.read(tmp_path / "rollouts.jsonl")] == [(1, 0), (2, 0)]
    assert [(line["step"], line["reward"]) for line in journal.read(tmp_path / "questions.jsonl")] == [(1, 1), (2, 1)]
    assert len(list(journal.read(tmp_path / "events.jsonl"))) == 1


def test_a_folder_with_a_run_is_not_touched_without_leave(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create({"name": "first"})
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="--resume"):
        folder.create({"name": "second"})
    with pytest.raises(CheckpointError, match="files that are no run"):
        folder.create({"name": "second"}, overwrite=True)
    assert (folder.path / "notes.txt").read_text() == "mine"


def test_overwrite_deletes_the_files_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create({"name": "first"})
    (folder.checkpoints / "stage-0-000001").mkdir()
    folder.create({"name": "second"}, overwrite=True)
    assert folder.read_json("spec.resolved.json") == {"name": "second"}
    assert list(folder.checkpoints.iterdir()) == []


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="empty folder"):
        RunFolder(tmp_path).create({}, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_live_process_keeps_its_lock(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(CheckpointError, match=f"process {os.getpid()}"), locked(tmp_path):
        pass
    assert not (tmp_path / LOCK_FILE).exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, time\n"
        "from neuromas.journal.folder import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(CheckpointError, match="is being written"), locked(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_a_writer_that_lost_the_lock_writes_nothing(tmp_path: Path) -> None:
    with locked(tmp_path) as token:
        survivor = RunWriter(tmp_path, token)
        survivor(step(1))
    with locked(tmp_path):
        with pytest.raises(CheckpointError, match="taken over"):
            survivor(step(2))
        survivor.close()
    assert [line["step"] for line in journal.read(tmp_path / "metrics.jsonl")] == [1]


@pytest.mark.parametrize(
    ("out", "why"), [("file/run", "Not a directory"), ("file", "File exists"), ("/proc", "No such file or directory")]
)
def test_a_folder_that_cannot_hold_a_run_is_refused_with_the_setting(tmp_path: Path, out: str, why: str) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / out
    with pytest.raises(CheckpointError) as raised, locked(folder):
        pass
    assert str(raised.value) == f"{folder} cannot hold a run: {why}; choose another --out or name"


KILLED_AT_EVERY_CHANGE = """
import os, signal, sys
from pathlib import Path
from neuromas.journal.folder import RunFolder, locked

FILES = ("result.json", "stages.jsonl", "metrics.jsonl", "base.json", "checkpoints/latest.json", "tracking/log")

def start(folder, **options):
    with locked(folder):
        run = RunFolder(folder)
        if not (options["resume"] and run.is_started):
            run.create({"name": "new"}, overwrite=options["overwrite"])
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "run.lock")

def kill_at(change):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        changes = event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir") or event == "open" and arguments[2] & 3
        if changes:
            seen += 1
            if seen == change:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

kills, change, status = 0, 0, None
while status != 0:
    change += 1
    folder = Path(sys.argv[1]) / str(change)
    for name in FILES if sys.argv[2] == "a run" else ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    if sys.argv[2] == "a run":
        (folder / "spec.resolved.json").write_text("{}")
    child = os.fork()
    if child == 0:
        kill_at(change)
        start(folder, overwrite=True, resume=False)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    kills += status != 0
    found = start(folder, overwrite=sys.argv[3] == "overwrite", resume=sys.argv[3] == "resume")
    if sys.argv[3] == "overwrite":
        assert found == ["checkpoints", "spec.resolved.json"], (change, found)
    else:
        left = {"stages.jsonl", "result.json"} & set(found)
        assert "spec.resolved.json" in found and (not left or "checkpoints/latest.json" in found), (change, found)
        assert not [name for name in found if name.startswith(".")], (change, found)
print(kills)
"""


@pytest.mark.parametrize("found", ["nothing", "a run"])
@pytest.mark.parametrize("then", ["overwrite", "resume"])
def test_a_start_killed_at_any_change_can_be_made_again(tmp_path: Path, found: str, then: str) -> None:
    script = [sys.executable, "-c", KILLED_AT_EVERY_CHANGE, str(tmp_path), found, then]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert int(done.stdout) >= {"nothing": 4, "a run": 12}[found]  # lock, draft, move, folder; what is deleted


def test_a_draft_of_a_killed_writer_is_gone_after_a_resume(tmp_path: Path) -> None:
    killed = "import os, sys, pathlib, signal; from neuromas.journal.lines import write_whole\n"
    killed += "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
    killed += "write_whole(pathlib.Path(sys.argv[1]), b'{}')\n"
    path = tmp_path / "analysis.json"
    assert subprocess.run([sys.executable, "-c", killed, str(path)], check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".analysis.json.")
    (tmp_path / ".notes.json.12").touch()  # a user's own
    RunFolder(tmp_path).cut_back(0, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == [".notes.json.12"]
