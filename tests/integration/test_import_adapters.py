"""``neuromas import``: adapters of elsewhere as the nodes of a run that can be measured, exported and trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from safetensors.torch import load_file, save_file

from neuromas.adapters.build import load_base
from neuromas.adapters.export import read_peft_folder
from neuromas.base.resolve import resolve_base
from neuromas.checkpoints.checkpoint import read_checkpoint
from neuromas.cli.main import main
from neuromas.journal import lines as journal

SPEC = """
name = "brought"
topology = { layers = [2] }
task = { type = "chain", hops = 2 }
adapter = { rank = 4, alpha = 8.0, targets = ["q_proj", "v_proj"] }
training = { steps = 2, prompts_per_step = 2, group_size = 4 }
evaluation = { examples = 8 }
engine = { type = "transformers" }
runtime = { type = "local" }
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "spec.toml"
    file.write_text(SPEC)
    return file


def save(folder: Path, config: PeftConfig) -> None:
    config.task_type = "CAUSAL_LM"
    model = get_peft_model(load_base(resolve_base("tiny")), config)
    generator = torch.Generator().manual_seed(len(folder.name))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)


def brought(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["import", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_what_was_imported_is_exported_measured_and_trained_on(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    save(made / "n1", LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "v_proj"]))
    save(made / "n3", LoraConfig(r=4, use_rslora=True, rank_pattern={"q_proj": 1}, target_modules=["q_proj", "v_proj"]))
    out = str(tmp_path)
    code, told = brought(capsys, str(spec), str(made), "--out", out)
    assert code == 0
    assert told["fresh"] == ["n2"]
    assert told["adapters"]["n1"] == {"method": "LORA", "rank": 2, "error": 0.0, "worst_layer": ""}
    assert 0 < told["adapters"]["n3"]["error"] < 1e-4

    assert main(["export", f"{out}/brought", "--out", f"{out}/exported"]) == 0
    own, back = read_peft_folder(made / "n1"), read_peft_folder(tmp_path / "exported" / "adapters" / "n1")
    assert (own.rank, back.rank) == (2, 4)
    for path, (a, b) in own.modules.items():
        np.testing.assert_array_equal(back.modules[path][0][:2], a)
        np.testing.assert_array_equal(back.modules[path][1], np.pad(b, ((0, 0), (0, 2))))
    unchanged = read_peft_folder(tmp_path / "exported" / "adapters" / "n2")
    assert not any(b.any() for _, b in unchanged.modules.values())

    capsys.readouterr()
    assert main(["eval", f"{out}/brought", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"]["greedy"]["examples"] == 8

    before = read_checkpoint(tmp_path / "brought")
    assert main(["train", str(spec), "--out", out, "--resume"]) == 0
    assert [line["step"] for line in journal.read(tmp_path / "brought" / "metrics.jsonl")] == [1, 2]
    after = read_checkpoint(tmp_path / "brought")
    assert after.state["step"] == 2
    path = next(iter(own.modules))
    moved = after.adapters[f"n1/{path}/B"] - before.adapters[f"n1/{path}/B"]
    assert 0 < moved.abs().max() < 0.01, "two steps from where the import began"
    assert moved[:, 2:].any(), "the ranks beyond the imported ones train, too"


def test_an_import_of_the_export_is_the_export_bit_for_bit(spec: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    for name in ("n1", "n2", "n3"):
        save(made / name, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    out = str(tmp_path)
    assert main(["import", str(spec), str(made), "--out", out]) == 0
    assert main(["export", f"{out}/brought", "--out", f"{out}/first"]) == 0
    assert main(["import", str(spec), f"{out}/first/adapters", "--out", out, "--overwrite"]) == 0
    assert main(["export", f"{out}/brought", "--out", f"{out}/second"]) == 0
    for name in ("n1", "n2", "n3"):
        weights = Path("adapters") / name / "adapter_model.safetensors"
        assert (tmp_path / "first" / weights).read_bytes() == (tmp_path / "second" / weights).read_bytes()


def test_an_import_that_was_broken_off_is_not_resumed_as_if_nothing_had_been_imported(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, out = tmp_path / "made", str(tmp_path)
    save(made / "n1", LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    assert main(["import", str(spec), str(made), "--out", out]) == 0
    shutil.rmtree(next((tmp_path / "brought" / "checkpoints").glob("stage-*")))  # the last that an import writes
    assert main(["train", str(spec), "--out", out, "--resume"]) == 2
    assert "its import was broken off; import again with --overwrite" in capsys.readouterr().err
    assert not (tmp_path / "brought" / "metrics.jsonl").exists()
    assert main(["import", str(spec), str(made), "--out", out, "--overwrite"]) == 0


def test_more_than_the_allowed_error_is_refused_and_may_be_allowed(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    save(made / "n1", IA3Config(target_modules=["q_proj", "v_proj"], feedforward_modules=[]))
    arguments = [str(spec), str(made), "--out", str(tmp_path)]
    assert main(["import", *arguments]) == 2
    message = capsys.readouterr().err
    assert "the nearest LoRA of rank 4 is" in message
    assert "allowed is 0.05; raise the adapter's rank" in message
    assert not (tmp_path / "brought" / "spec.resolved.json").exists()
    code, told = brought(capsys, *arguments, "--max-error", "1")
    assert code == 0
    assert told["adapters"]["n1"]["method"] == "IA3"
    assert 0.05 < told["adapters"]["n1"]["error"] < 1
    code, exact = brought(capsys, *arguments, "--set", "adapter.rank=64", "--overwrite")
    assert code == 0
    assert exact["adapters"]["n1"]["error"] < 1e-4


@pytest.mark.parametrize("cut", [(2, 63), (2, 1)])
def test_an_adapter_of_another_base_is_refused(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: tuple[int, int]
) -> None:
    folder = tmp_path / "made" / "n1"
    save(folder, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    file = folder / "adapter_model.safetensors"
    narrow = {key: value[:, : cut[1]] if "lora_A" in key else value for key, value in load_file(file).items()}
    save_file({key: value.clone() for key, value in narrow.items()}, file)
    assert main(["import", str(spec), str(folder.parent), "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert f"got A {cut} and B (64, 2), the base's layer has 64 inputs and 64 outputs" in " ".join(message.split())
    assert not (tmp_path / "brought" / "spec.resolved.json").exists()


@pytest.mark.parametrize(
    ("changes", "folder", "message"),
    [
        ([], "n9", "got ['n9']; the adapters of the graph are ['n1', 'n2', 'n3']"),
        (["--set", 'adapter.targets=["q_proj"]'], "n1", "name them in adapter.targets"),
        (["--set", "adapter.type=loft", "--set", "adapter.rank=4"], "n1", "cannot be any LoRA"),
    ],
)
def test_what_the_graph_cannot_hold_is_refused(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], folder: str, message: str
) -> None:
    made = tmp_path / "made"
    save(made / folder, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    text = SPEC.replace(", alpha = 8.0", "") if "adapter.type=loft" in changes else SPEC
    spec.write_text(text)
    assert main(["import", str(spec), str(made), "--out", str(tmp_path), *changes]) == 2
    assert message in capsys.readouterr().err
