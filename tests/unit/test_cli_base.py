"""``neuromas base``: what it lists, refuses and shows."""

import json
from pathlib import Path

import numpy as np
import pytest
from letter_base import CHATML, CHATML_TOKENS, write_letter_base
from safetensors.numpy import save_file
from terminal import terminal

from neuromas.base.resolve import resolve_base
from neuromas.cli.main import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    thinking = CHATML.replace(
        "assistant\n{% endif %}", "assistant\n{% if enable_thinking is false %}<no>{% endif %}{% endif %}"
    )
    folder = write_letter_base(
        tmp_path / "neuromas/bases/own", CHATML_TOKENS, thinking, config={"max_position_embeddings": 4096}
    )
    tensors = {"model.layers.0.self_attn.q_proj.weight": (64, 64), "model.embed_tokens.weight": (259, 64)}
    save_file({key: np.zeros(shape, np.float32) for key, shape in tensors.items()}, folder / "model.safetensors")
    return folder


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main(["base", *words, "--json"]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def test_imported_bases_go_by_their_names(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve_base("own") == home
    listed = ask(capsys, "list")
    assert listed["bases"] == ["tiny", "own"]
    assert list(listed["available"]) == ["smollm2-135m"]  # type: ignore[call-overload]


def test_show_says_what_training_needs_to_know(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = ask(capsys, "show", "own")
    assert facts["parameters"] == f"{64 * 64 + 259 * 64:,}"
    assert (facts["head_size"], facts["positions"], facts["linear_layers"]) == (32, "4,096", "q_proj")
    assert facts["end_tokens"] == "256 <|endoftext|>, 258 <|im_end|>"
    assert facts["thinking"] == "off with prompt.template_kwargs = {enable_thinking = false}"
    assert (facts["renderer"], facts["vllm_cpu"]) == ("chat", "yes")
    prompts = facts["prompts"]
    assert isinstance(prompts, dict)
    assert prompts["first"].endswith("Task:\n2 + 3<|im_end|>\n<|im_start|>assistant\n")
    assert "Write the answer to the task" in prompts["last"]
    assert "Message from layer 1, position 1:\n5<|im_end|>" in prompts["last"]


def test_show_says_why_vllm_cannot_run_a_base(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((home / "config.json").read_text())
    (home / "config.json").write_text(json.dumps(config | {"head_dim": 16}))
    assert "no: " in str(ask(capsys, "show", "own")["vllm_cpu"])


@pytest.mark.parametrize("name", ["tiny", "../up", ".hidden", "A B"])
def test_names_are_checked_before_they_become_folders(
    home: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert main(["base", "import", str(tmp_path / "m.gguf"), "--name", name]) == 2
    assert "give another with --name" in capsys.readouterr().err


def test_the_size_of_a_download_is_told_before_it_begins(tmp_path: Path) -> None:
    words = ["base", "get", "smollm2-135m"]
    with terminal(words, COLUMNS="80", XDG_DATA_HOME=str(tmp_path), PIP_NO_INDEX="1", PIP_FIND_LINKS="") as running:
        assert running.end() != 0
    told = " ".join(running.text.split())
    assert "93 MB to download, 270 MB on disk" in told[: told.index("pip could not download")]
