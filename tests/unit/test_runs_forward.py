"""The forwarder: what a run folder's files say reaches the streams once, whatever happens to reader and writer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from neuromas.journal import lines as journal
from neuromas.services.records.streams import events_stream, logs_stream, questions_stream, rollouts_stream
from neuromas.services.runs.forward import Forwarder
from neuromas.services.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio
RUN = "run_1"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db")
    yield store
    await store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def write(path: Path, *documents: dict[str, object]) -> None:
    file = journal.Journal(path)
    file.append(*documents)
    file.close()


def step(number: int, stage: int = 0, loss: float = 0.5) -> dict[str, object]:
    return {"stage": stage, "step": number, "time_s": 100.0 * stage + number, "train/loss": loss}


def forwarder(store: SqliteStore, folder: Path) -> Forwarder:
    return Forwarder(store, RUN, folder, folder / "job-0.log.jsonl")


async def told(store: SqliteStore, stream: str) -> list[dict[str, object]]:
    return [entry.document for entry in await store.read(stream, limit=1000)]


async def test_steps_and_events_are_told_in_the_order_of_what_happened(store: SqliteStore, folder: Path) -> None:
    write(folder / "metrics.jsonl", step(1), step(2))
    write(folder / "events.jsonl", {"type": "stage_started", "time_s": 0.5}, {"type": "stage_ended", "time_s": 2.5})
    assert await forwarder(store, folder).forward() == 4
    events = await told(store, events_stream(RUN))
    assert [event["type"] for event in events] == ["stage_started", "step", "step", "stage_ended"]
    assert events[1] == {"type": "step", "stage": 0, "step": 1, "time_s": 1.0, "metrics": {"train/loss": 0.5}}


async def test_a_file_that_grows_is_told_as_it_grows(store: SqliteStore, folder: Path) -> None:
    subject = forwarder(store, folder)
    assert await subject.forward() == 0
    for number in range(1, 4):
        write(folder / "metrics.jsonl", step(number))
        assert await subject.forward() == 1
    assert [event["step"] for event in await told(store, events_stream(RUN))] == [1, 2, 3]


async def test_many_lines_are_told_whole(store: SqliteStore, folder: Path) -> None:
    write(folder / "metrics.jsonl", *(step(number) for number in range(1, 951)))
    assert await forwarder(store, folder).forward() == 950
    assert [event["step"] for event in await told(store, events_stream(RUN))] == list(range(1, 951))


async def test_a_line_without_its_end_waits_for_it(store: SqliteStore, folder: Path) -> None:
    line = json.dumps(step(1)).encode()
    path = folder / "metrics.jsonl"
    path.write_bytes(line[:20])
    subject = forwarder(store, folder)
    assert await subject.forward() == 0
    path.write_bytes(line + b"\n")
    assert await subject.forward() == 1


async def test_a_second_driver_that_sends_everything_again_changes_nothing(store: SqliteStore, folder: Path) -> None:
    write(folder / "metrics.jsonl", step(1), step(2))
    write(folder / "events.jsonl", {"type": "run_started", "time_s": 0.0})
    await forwarder(store, folder).forward()
    before = await told(store, events_stream(RUN))
    await forwarder(store, folder).forward()
    assert await told(store, events_stream(RUN)) == before


async def test_a_step_that_a_resumed_run_repeats_is_told_once_and_none_is_left_out(
    store: SqliteStore, folder: Path
) -> None:
    path = folder / "metrics.jsonl"
    write(path, step(1), step(2), step(3, loss=0.3))
    subject = forwarder(store, folder)
    await subject.forward()
    journal.cut_back(path, lambda line: line["step"] <= 2)
    write(path, step(3, loss=0.4), step(4), step(1, stage=1))
    await subject.forward()
    events = await told(store, events_stream(RUN))
    assert [(event["stage"], event["step"]) for event in events] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1)]
    assert events[2]["metrics"] == {"train/loss": 0.3}


async def test_what_a_store_did_not_take_is_sent_again(
    store: SqliteStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "metrics.jsonl", step(1))
    away = SqliteStore(tmp_path / "nowhere" / "file" / "store.db")
    (tmp_path / "nowhere").write_text("a file where the folder should be")
    subject = forwarder(away, folder)
    with pytest.raises(ConnectionError):
        await subject.forward()
    (tmp_path / "nowhere").unlink()
    assert await subject.forward() == 1
    assert len(await told(away, events_stream(RUN))) == 1
    await away.close()


async def test_rollouts_answers_and_log_lines_have_streams_of_their_own(store: SqliteStore, folder: Path) -> None:
    rollout = {"stage": 0, "step": 1, "example": "train-3", "index": 0, "answer": "d4"}
    write(folder / "rollouts.jsonl", rollout, {**rollout, "index": 1})
    write(folder / "questions.jsonl", {**rollout, "example": "test-0", "step": 0})
    write(folder / "job-0.log.jsonl", {"level": "INFO", "message": "driving"})
    for _ in range(2):
        await forwarder(store, folder).forward()
    assert [entry["index"] for entry in await told(store, rollouts_stream(RUN))] == [0, 1]
    assert [entry["step"] for entry in await told(store, questions_stream(RUN))] == [0]
    assert [entry["message"] for entry in await told(store, logs_stream(RUN))] == ["driving"]
