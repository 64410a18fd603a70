"""Trained graphs that a run takes in: what their adapters do not fit is refused before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from adapter_families import SPECS

from neuromas.adapters.build import build_model
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.inherit import inherit
from neuromas.adapters.kinds import AdapterKinds
from neuromas.checkpoints.checkpoint import Checkpoint, CheckpointWriter
from neuromas.checkpoints.trained import TrainedCheckpoint
from neuromas.cli.main import main
from neuromas.errors import AdapterError
from neuromas.growth.plan import apply_plan
from neuromas.journal.folder import RunFolder
from neuromas.run.grafts import graft_faults
from neuromas.spec.growth import GraftSpec, PlanSpec
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.topology.builders import chain

GROUPED = {"node_groups": {"readers": {"nodes": ["n1"], "adapter": {"type": "lora", "rank": 4}}}}
PAIRS = [(own, theirs) for own in SPECS for theirs in SPECS if SPECS[own].type == SPECS[theirs].type]


def a_spec(**changes: Any) -> RunSpec:
    return parse_run_spec({"topology": {"chain": 2}, "task": {"type": "chain", "hops": 5}, **changes})


def trained_run(folder: Path, **changes: Any) -> Path:
    """Write a run with one checkpoint."""
    spec = a_spec(**changes)
    RunFolder(folder).create(spec.model_dump(mode="json"))
    state = {"name": "stage-0", "index": 0, "step": 1, "accuracy": None, "level": None}
    CheckpointWriter(folder / "checkpoints", 1).write(Checkpoint(spec.topology, {}, {}, {}, {"seed": 0}, state))
    return folder


def growing(module: Path, **changes: Any) -> dict[str, Any]:
    plan = {"edits": [{"edit": "append"}, {"edit": "graft", "modules": [str(module)]}]}
    growth = {"levels": [3, 5], "plans": [plan], "trigger": {"type": "threshold"}}
    return {"topology": {"chain": 2}, "task": {"type": "chain", "hops": 5}, "growth": growth, **changes}


def verdict(tmp_path: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    (tmp_path / "run.json").write_text(json.dumps(document))
    code = main(["validate", str(tmp_path / "run.json")])
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize(
    ("of_module", "of_run", "expected"),
    [
        ({"adapter": {"rank": 4}}, {}, "whose adapter.rank is 4; allowed is 1, this run's"),
        ({"adapter": {"alpha": 2.0}}, {}, "whose adapter.alpha is 2 x rank; allowed is 1 x rank"),
        (
            {"adapter": {"targets": ["q_proj"]}},
            {},
            "whose adapter.targets is q_proj; allowed is q_proj, v_proj, up_proj",
        ),
        (
            {"adapter": {"type": "unilora", "dimension": 32}},
            {},
            "whose adapter.type is 'unilora'; allowed is 'lora', this run's",
        ),
        (
            GROUPED,
            {"node_groups": {"readers": {"nodes": ["n2"], "adapter": {"type": "lora", "rank": 2}}}},
            "whose node_groups.readers.adapter.rank is 4; allowed is 2, this run's",
        ),
        (GROUPED, {}, "with nodes of the group 'readers'; node_groups of this run: none"),
        (
            {"adapter": {"type": "unilora", "dimension": 32}, "seed": 3},
            {"adapter": {"type": "unilora", "dimension": 32}},
            "whose adapters of type 'unilora' belong to seed 3; allowed is 0, this run's",
        ),
    ],
)
def test_validate_refuses_a_graft_with_other_adapters(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    of_module: dict[str, Any],
    of_run: dict[str, Any],
    expected: str,
) -> None:
    module = trained_run(tmp_path / "module", **of_module)
    code, said = verdict(tmp_path, growing(module, **of_run), capsys)
    assert code == 2
    assert "growth.plans[0].edits[1].modules[0]" in said
    assert expected in said


def test_validate_takes_a_graft_with_the_same_adapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = trained_run(tmp_path / "module", **GROUPED, seed=9)
    code, said = verdict(tmp_path, growing(module, **GROUPED), capsys)
    assert code == 0, said


def test_a_graft_of_another_base_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small_base: Path
) -> None:
    module = trained_run(tmp_path / "module", base=str(small_base))
    code, said = verdict(tmp_path, growing(module), capsys)
    assert code == 2
    assert f"trained on the base '{small_base}'; allowed is 'tiny', this run's" in said


def test_every_graft_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = growing(trained_run(tmp_path / "module", adapter={"rank": 4}))
    document["growth"]["plans"][0]["edits"][1]["modules"].append(str(tmp_path / "gone"))
    code, said = verdict(tmp_path, document, capsys)
    assert code == 2
    assert "modules[0]: got" in said
    assert "modules[1]: checkpoint" in said


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("adapter.rank=4", "adapter.rank: got 4; allowed is 1, with which the parent was trained"),
        ("adapter={type='ssf'}", "adapter.type: got 'ssf'; allowed is 'lora', with which the parent was trained"),
    ],
)
def test_a_grown_run_cannot_change_what_its_parent_has_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, expected: str
) -> None:
    parent = trained_run(tmp_path / "parent")
    assert main(["grow", str(parent), "--append", "1", "--out", str(tmp_path / "out"), "--set", setting]) == 2
    assert expected in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "allowed"), [([], "1, 2, 3, 4, 5"), (["--set", "task.hops=6"], "1, 2, 3, 4, 5, 6")]
)
def test_a_grown_run_starts_at_a_level_that_its_task_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], allowed: str
) -> None:
    command = ["grow", str(trained_run(tmp_path / "parent")), "--append", "1", "--out", str(tmp_path / "out")]
    assert main([*command, "--level", "7", *options]) == 2
    assert f"level: got 7; allowed are {allowed}\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["eval", "analyze", "diagnose"])
def test_what_is_measured_is_measured_at_a_level_that_the_task_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, str(trained_run(tmp_path / "parent")), "--level", "7"]) == 2
    assert "level: got 7; allowed are 1, 2, 3, 4, 5\n" in capsys.readouterr().err


def joins(base: Path, own: AdapterSpec, theirs: AdapterSpec, seeds: tuple[int, int]) -> bool:
    """Whether weights of one kind, grafted into a graph of another, load."""
    plan = PlanSpec(edits=(GraftSpec(edit="graft", modules=("module",)),))
    grown = apply_plan(chain(2), plan, {"module": chain(2)})
    states = [
        build_model(base, AdapterKinds.of(section), chain(2), seed)[1].state()
        for section, seed in zip((own, theirs), seeds, strict=True)
    ]
    _, bank = build_model(base, AdapterKinds.of(own), grown.topology, seeds[0])
    try:
        bank.load_all(inherit(states, grown.sources, bank.state(), bank.roles(), 0))
    except AdapterError:
        return False
    return True


@pytest.mark.parametrize(("own", "theirs"), [pair for pair in PAIRS if SPECS[pair[0]].type != "hyper"])
def test_what_is_refused_is_what_does_not_load(small_base: Path, own: str, theirs: str) -> None:
    taken = not graft_faults_of(small_base, own, theirs, (0, 0))
    assert joins(small_base, SPECS[own], SPECS[theirs], (0, 0)) == taken


def test_networks_trained_apart_cannot_be_joined(small_base: Path) -> None:
    assert "it has trained a network for itself" in str(graft_faults_of(small_base, "hyper", "hyper", (0, 0)))


@pytest.mark.parametrize("name", SPECS)
def test_a_seed_matters_where_weights_of_another_do_not_load(small_base: Path, name: str) -> None:
    assert joins(small_base, SPECS[name], SPECS[name], (0, 1)) == (not graft_faults_of(small_base, name, name, (0, 1)))


def graft_faults_of(base: Path, own: str, theirs: str, seeds: tuple[int, int]) -> list[str]:
    mine, other = (
        a_spec(base=str(base), adapter=SPECS[name].model_dump(), seed=seed)
        for name, seed in zip((own, theirs), seeds, strict=True)
    )
    module = TrainedCheckpoint(Path("module"), other.topology, other)
    return [str(fault) for fault in graft_faults(mine, "module", module, "path")]
