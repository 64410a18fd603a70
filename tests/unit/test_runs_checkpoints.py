"""Checkpoints of runs in the store: made known once, kept while needed, removed when not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from stored import a_checkpoint, a_run, an_endpoint, an_evaluation

from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.run import RunRecord
from neuromas.services.runs.checkpoints import CheckpointRegistrar, checkpoint_id
from neuromas.services.runs.lineage import checkpoint_folder, resolve_modules, resolve_parent
from neuromas.services.runs.retention import PRUNED_GRACE_S, Retention
from neuromas.services.settings import Settings
from neuromas.services.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio
RUN = "run_1"
OLD = 1_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db")
    yield store
    await store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / RUN / "tiny"


def write(folder: Path, step: int, accuracy: float | None = None, sequence: int = 0) -> Path:
    """Write what the registrar reads of a checkpoint, and weights that it must not copy."""
    path = folder / "checkpoints" / f"stage-0-{step:06d}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    state = {"index": 0, "name": "stage-0", "step": step, "level": None, "accuracy": accuracy}
    graph = {"nodes": [{"id": "n1"}, {"id": "n2"}], "edges": [["n1", "n2"]], "output": "n2"}
    for name, document in (("state.json", state), ("topology.json", graph), ("adapters.safetensors", {})):
        (path / name).write_text(json.dumps(document))
    (path / "manifest.json").write_text(json.dumps({"sequence": sequence or step}))
    return path


def registrar(store: SqliteStore, folder: Path, tmp_path: Path) -> CheckpointRegistrar:
    return CheckpointRegistrar(store, RUN, folder, tmp_path)


async def known(store: SqliteStore) -> dict[int, CheckpointRecord]:
    page = await store.list(CheckpointRecord, limit=100)
    return {document.step: document for document in page.items}


async def test_a_checkpoint_is_made_known_with_what_is_in_it(store: SqliteStore, folder: Path, tmp_path: Path) -> None:
    write(folder, 4, accuracy=0.5)
    await registrar(store, folder, tmp_path).register()
    document = (await known(store))[4]
    assert document.id == f"ckpt_{hashlib.sha256(b'run_1/stage-0-000004').hexdigest()[:16]}"
    assert (document.run, document.stage, document.stage_name) == (RUN, 0, "stage-0")
    assert (document.nodes, document.accuracy) == (2, 0.5)
    assert document.path == "runs/run_1/tiny/kept/stage-0-000004"
    kept = tmp_path / document.path / "adapters.safetensors"
    assert kept.stat().st_ino == (folder / "checkpoints/stage-0-000004/adapters.safetensors").stat().st_ino


async def test_what_the_run_prunes_stays_as_long_as_it_is_known(
    store: SqliteStore, folder: Path, tmp_path: Path
) -> None:
    subject = registrar(store, folder, tmp_path)
    pruned = write(folder, 2)
    await subject.register()
    shutil.rmtree(pruned)
    write(folder, 4)
    await subject.register()
    assert sorted(await known(store)) == [2, 4]
    assert (await checkpoint_folder(store, tmp_path, checkpoint_id(RUN, "stage-0-000002"))).is_dir()


async def test_another_driver_makes_nothing_known_twice(store: SqliteStore, folder: Path, tmp_path: Path) -> None:
    write(folder, 2)
    await registrar(store, folder, tmp_path).register()
    before = await known(store)
    await registrar(store, folder, tmp_path).register()
    assert await known(store) == before


async def test_the_accuracy_is_told_when_it_is_measured(store: SqliteStore, folder: Path, tmp_path: Path) -> None:
    subject = registrar(store, folder, tmp_path)
    write(folder, 6)
    await subject.register()
    write(folder, 6, accuracy=0.75, sequence=7)
    await subject.register()
    assert (await known(store))[6].accuracy == 0.75


async def test_an_unfinished_checkpoint_is_not_made_known(store: SqliteStore, folder: Path, tmp_path: Path) -> None:
    (write(folder, 2) / "manifest.json").unlink()
    await registrar(store, folder, tmp_path).register()
    assert await known(store) == {}


async def test_a_parent_is_found_by_its_record(store: SqliteStore, folder: Path, tmp_path: Path) -> None:
    write(folder, 2)
    await registrar(store, folder, tmp_path).register()
    id = checkpoint_id(RUN, "stage-0-000002")
    plan: dict[str, Any] = {"edits": [{"edit": "graft", "modules": [id]}]}
    record = a_run("run_2", parent={"run": RUN, "checkpoint": id, "plan": plan, "level": 3})
    parent = await resolve_parent(store, tmp_path, record)
    assert parent is not None
    kept = folder / "kept" / "stage-0-000002"
    assert (parent.checkpoint, parent.level, parent.modules) == (kept, 3, (str(kept),))
    spec = await resolve_modules(store, tmp_path, {"name": "x", "growth": {"plans": [plan]}})
    assert spec["growth"]["plans"][0]["edits"][0]["modules"] == [str(kept)]
    assert await resolve_parent(store, tmp_path, a_run("run_3")) is None


async def test_a_deleted_parent_is_told(store: SqliteStore, tmp_path: Path) -> None:
    record = a_run(parent={"run": "run_0", "checkpoint": "ckpt_gone", "plan": {"edits": []}})
    with pytest.raises(OSError, match="ckpt_gone has been deleted"):
        await resolve_parent(store, tmp_path, record)


async def test_a_record_cannot_lead_out_of_the_data_folder(store: SqliteStore, tmp_path: Path) -> None:
    await store.create(a_checkpoint("ckpt_x", path="../elsewhere"))
    with pytest.raises(OSError, match="outside the data folder"):
        await checkpoint_folder(store, tmp_path, "ckpt_x")


# Retention


async def add_run(store: SqliteStore, id: str = RUN, **values: Any) -> None:
    await store.create(a_run(id, **{"state": "succeeded", "ended": OLD, "spec": {"growth": None}, **values}))


async def add_checkpoints(store: SqliteStore, folder: Path, tmp_path: Path, **accuracies: float | None) -> None:
    for name, accuracy in accuracies.items():
        write(folder, int(name[1:]), accuracy)
    await registrar(store, folder, tmp_path).register()


def retention(store: SqliteStore, tmp_path: Path, **settings: Any) -> Retention:
    return Retention(store, Settings(data_dir=tmp_path, **settings))


async def test_of_an_ended_run_the_newest_and_the_best_are_kept(
    store: SqliteStore, folder: Path, tmp_path: Path
) -> None:
    await add_run(store)
    await add_checkpoints(store, folder, tmp_path, s1=0.1, s2=0.9, s3=0.2, s4=None)
    await retention(store, tmp_path, retain_checkpoints=1).round()
    assert sorted(await known(store)) == [2, 4]
    assert sorted(path.name for path in (folder / "kept").iterdir()) == ["stage-0-000002", "stage-0-000004"]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["stage-0-000002", "stage-0-000004"]


@pytest.mark.parametrize("user", ["child", "endpoint", "evaluation"])
async def test_what_is_used_is_kept(store: SqliteStore, folder: Path, tmp_path: Path, user: str) -> None:
    await add_run(store)
    await add_checkpoints(store, folder, tmp_path, s1=None, s2=None)
    id = checkpoint_id(RUN, "stage-0-000001")
    if user == "child":
        parent = {"run": RUN, "checkpoint": id, "plan": {"edits": []}}
        await add_run(store, "run_2", state="queued", ended=None, parent=parent)
    else:
        values = {"checkpoint": id, "run": RUN}
        await store.create(an_endpoint(state="ready", **values) if user == "endpoint" else an_evaluation(**values))
    await retention(store, tmp_path, retain_checkpoints=1, retain_runs_days=1).round()
    assert sorted(await known(store)) == [1, 2]
    assert (await store.get(RunRecord, RUN)).state == "succeeded"


async def test_a_checkpoint_that_is_being_deleted_goes_with_its_files(
    store: SqliteStore, folder: Path, tmp_path: Path
) -> None:
    await add_run(store)
    await add_checkpoints(store, folder, tmp_path, s1=None, s2=None)
    await store.update(CheckpointRecord, checkpoint_id(RUN, "stage-0-000002"), {"state": "deleting"})
    await retention(store, tmp_path).round()
    assert sorted(await known(store)) == [1]
    assert not (folder / "kept" / "stage-0-000002").exists()


async def test_a_running_run_keeps_its_checkpoints_and_pruned_ones_for_a_while(
    store: SqliteStore, folder: Path, tmp_path: Path
) -> None:
    await add_run(store, state="running", ended=None)
    await add_checkpoints(store, folder, tmp_path, s1=None, s2=None)
    shutil.rmtree(folder / "checkpoints" / "stage-0-000001")
    await retention(store, tmp_path, retain_checkpoints=1).round()
    assert sorted(await known(store)) == [1, 2]
    pruned = (await known(store))[1]
    await store.delete(CheckpointRecord, pruned.id)
    await store.create(pruned.model_copy(update={"created": pruned.created - int(PRUNED_GRACE_S) - 1}))
    await retention(store, tmp_path, retain_checkpoints=1).round()
    assert sorted(await known(store)) == [2]
    assert not (folder / "kept" / "stage-0-000001").exists()


async def test_an_old_run_goes_whole(store: SqliteStore, folder: Path, tmp_path: Path) -> None:
    await add_run(store)
    await add_run(store, "run_2", ended=None, state="paused")
    await add_checkpoints(store, folder, tmp_path, s1=None)
    await store.append(f"{RUN}/events", [("a", {"type": "step"})])
    await retention(store, tmp_path, retain_runs_days=1).round()
    assert [run.id for run in (await store.list(RunRecord)).items] == ["run_2"]
    assert await known(store) == {}
    assert await store.read(f"{RUN}/events") == []
    assert not folder.parent.exists()
