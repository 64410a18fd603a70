"""The folder of one run: what lies where, who may write, and what a resumed run keeps. Loads no torch.

- ``spec.resolved.json``: the RunSpec with every default filled in
- ``base.json``: the base model it began with, by content hash
- ``data.json``: the files of questions it began with, by content hash
- ``import.json``: what became of adapters that were imported, where it began with some
- ``metrics.jsonl``: one object per optimizer step
- ``rollouts.jsonl``: sampled rollouts with every Node's message
- ``questions.jsonl``: the same few held-out questions, as they were answered while the run went on
- ``events.jsonl``: everything else that happened, in order
- ``stages.jsonl``: outcomes of finished stages, read back on resume
- ``checkpoints/``: one folder per checkpoint
- ``tracking/``: what trackers such as TensorBoard write
- ``result.json``: figures of the finished run
- ``rewards.json``: of every test question, what each figure of the result is the mean of
- ``analysis.json``: what ``neuromas analyze`` found last
- ``diagnosis.json``: what ``neuromas diagnose`` found last
- ``report.html``: the figures for people
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from neuromas.errors import CheckpointError, reason, writing
from neuromas.journal import lines as journal
from neuromas.journal.events import Event, Phase, QuestionsAsked, RolloutsSampled, StepDone

SPEC_FILE = "spec.resolved.json"
BASE_FILE = "base.json"
DATA_FILE = "data.json"
IMPORT_FILE = "import.json"
METRICS_FILE = "metrics.jsonl"
ROLLOUTS_FILE = "rollouts.jsonl"
QUESTIONS_FILE = "questions.jsonl"
EVENTS_FILE = "events.jsonl"
STAGES_FILE = "stages.jsonl"
RESULT_FILE = "result.json"
REWARDS_FILE = "rewards.json"
ANALYSIS_FILE = "analysis.json"
DIAGNOSIS_FILE = "diagnosis.json"
REPORT_FILE = "report.html"
CHECKPOINTS_FOLDER = "checkpoints"
TRACKING_FOLDER = "tracking"
LOCK_FILE = "run.lock"
_OWN_FILES = (
    SPEC_FILE, BASE_FILE, DATA_FILE, IMPORT_FILE, METRICS_FILE, ROLLOUTS_FILE, QUESTIONS_FILE, EVENTS_FILE,
    STAGES_FILE, RESULT_FILE, REWARDS_FILE, ANALYSIS_FILE, DIAGNOSIS_FILE, REPORT_FILE, LOCK_FILE,
)  # fmt: skip


class RunFolder:
    """Paths of one run, and the small documents in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """Folder that holds the checkpoints."""
        return self.path / CHECKPOINTS_FOLDER

    @property
    def is_started(self) -> bool:
        """Whether a run has written its spec here."""
        return (self.path / SPEC_FILE).is_file()

    def create(self, spec: Mapping[str, Any], overwrite: bool = False) -> None:
        """Make the folder for a new run and write its spec.

        Args:
            spec: the resolved spec as a document.
            overwrite: delete an earlier run's own files first; anything else in the folder stays.

        Raises:
            CheckpointError: something is there already and may not be overwritten.
            StorageError: the folder cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise CheckpointError(f"{self.path} is a file; name a folder for the run with --out")
        self._remove_drafts()
        if self.is_started and overwrite:
            self._delete_run()
        if self.path.is_dir() and any(entry.name != LOCK_FILE for entry in self.path.iterdir()):
            what, remedy = "files that are no run", "use an empty folder"
            if self.is_started:
                what = "a run"
                remedy = "go on with it (--resume, in Python resume=True), delete it (--overwrite, overwrite=True)"
            raise CheckpointError(f"{self.path} holds {what} already; {remedy}, or choose another --out or name")
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_json(SPEC_FILE, spec)  # the first: a folder without it is no run, and could not be resumed
            self.checkpoints.mkdir()

    def cut_back(self, stage: int, step: int) -> None:
        """Drop metrics, rollouts and answers after ``step`` steps of ``stage``: a resumed run writes them again."""

        def is_kept(document: dict[str, Any]) -> bool:
            return (document["stage"], document["step"]) <= (stage, step)

        self._remove_drafts()
        for name in (METRICS_FILE, ROLLOUTS_FILE, QUESTIONS_FILE):
            journal.cut_back(self.path / name, is_kept)

    def read_json(self, name: str) -> Any:
        """Return one document of the folder.

        Raises:
            CheckpointError: the file is missing or broken.
        """
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist; is {self.path} the folder of a run?") from error
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{path} is not JSON ({error}); restore it from a copy") from error

    def write_json(self, name: str, document: Any) -> None:
        """Write one document, readable by people, in one move."""
        text = json.dumps(document, indent=1, ensure_ascii=False, default=str)
        journal.write_whole(self.path / name, (text + "\n").encode())

    def _remove_drafts(self) -> None:
        """Remove what writers of whole files left here when they were killed; to be called under the lock."""
        if self.path.is_dir():
            for name in _OWN_FILES:
                for draft in journal.drafts(self.path / name):
                    draft.unlink(missing_ok=True)

    def _delete_run(self) -> None:
        """Delete the run's files, so that a kill at any moment leaves a run that can be deleted or resumed.

        What says that there is something to go on from is the first to go, the spec, which makes it a run, the last.
        """
        first, last = (RESULT_FILE, STAGES_FILE), SPEC_FILE
        for name in first:
            (self.path / name).unlink(missing_ok=True)
        for name in (CHECKPOINTS_FOLDER, TRACKING_FOLDER):
            if (self.path / name).is_dir():
                shutil.rmtree(self.path / name)
        for name in (*(name for name in _OWN_FILES if name not in (*first, last, LOCK_FILE)), last):
            (self.path / name).unlink(missing_ok=True)


class RunWriter:
    """Observer that writes events to the run folder; each event is on its way to the disk when the call returns.

    With the token of a lock it refuses to write once another process holds the lock: a learner may outlive its run
    by some seconds, and must not write into the run that resumes.
    """

    def __init__(self, folder: Path, token: str | None = None) -> None:
        self._lock, self._token = folder / LOCK_FILE, token
        self._metrics = journal.Journal(folder / METRICS_FILE)
        self._rollouts = journal.Journal(folder / ROLLOUTS_FILE)
        self._questions = journal.Journal(folder / QUESTIONS_FILE)
        self._events = journal.Journal(folder / EVENTS_FILE)

    def __call__(self, event: Event) -> None:
        """Write one event to its file.

        Raises:
            CheckpointError: the folder belongs to another process by now.
            StorageError: there is no space for it.
        """
        if self._token is not None and _holder(self._lock).get("token") != self._token:
            raise CheckpointError(f"{self._lock.parent} was taken over by another process; this one stops writing")
        if isinstance(event, StepDone):
            self._metrics.append(event.to_document())
        elif isinstance(event, QuestionsAsked):
            self._questions.append(*event.to_documents())
        elif isinstance(event, RolloutsSampled):
            self._rollouts.append(*event.to_documents())
        elif not isinstance(event, Phase):
            self._events.append(event.to_document())

    def close(self) -> None:
        """Close the files. Safe to call twice."""
        with ExitStack() as stack:
            for file in (self._metrics, self._rollouts, self._questions, self._events):
                stack.callback(file.close)


@contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Hold the folder against a second writer, by a file that names this process and host.

    A lock left by a process of this host that no longer lives is taken over. Yields a token for ``RunWriter``.

    Raises:
        CheckpointError: another live process, or a process of another host, holds the folder; or it cannot be made, or
            written in.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        token = _acquire(path)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{folder} cannot hold a run: {reason(error)}; choose another --out or name") from error
    try:
        yield token
    finally:
        if _holder(path).get("token") == token:
            path.unlink(missing_ok=True)


def _acquire(path: Path) -> str:
    token, pid = uuid.uuid4().hex, os.getpid()
    owner = {"pid": pid, "host": socket.gethostname(), "born": _birth(pid), "time_s": time.time(), "token": token}
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            _remove_if_stale(path)
            continue
        try:
            os.write(descriptor, json.dumps(owner).encode())
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        return token
    raise CheckpointError(f"{path} was taken by another process at this moment; try again")


def _remove_if_stale(path: Path) -> None:
    holder = _holder(path)
    if holder and (holder["host"] != socket.gethostname() or _birth(holder["pid"]) == holder["born"]):
        raise CheckpointError(
            f"{path.parent} is being written by process {holder['pid']} on {holder['host']}; "
            f"wait for it or stop it (if that host is gone, delete {path})"
        )
    path.unlink(missing_ok=True)


def _holder(path: Path) -> dict[str, Any]:
    """Return who holds a lock; nothing when it is free or was left half written."""
    try:
        holder: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return holder


def _birth(pid: int) -> str | None:
    """Return when a process began, so that a re-used id is not taken for it; None when no such process lives."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] == "Z" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "alive"
    return "alive"
