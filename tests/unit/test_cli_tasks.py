import json
from pathlib import Path

import pytest

from neuromas.cli.main import BAD_INPUT, OK, main


def test_families_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "list", "--json"]) == OK
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert tasks["chain"] == "Follow a random permutation of 8 symbols for hops steps."
    own = [
        "chain",
        "tree",
        "circuit",
        "arithmetic",
        "hidden_tree",
        "dynamics",
        "file",
        "hub",
        "reasoning_gym",
        "programs",
        "python",
    ]
    assert list(tasks)[: len(own)] == own


def test_questions_are_shown_with_what_scores(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "show", "chain", "--examples", "2", "--level", "2", "--set", "hops=3", "--json"]) == OK
    shown = json.loads(capsys.readouterr().out)
    assert (shown["task"], shown["levels"], len(shown["examples"])) == ("chains of 3 hops", [1, 2, 3], 2)
    for example in shown["examples"]:
        assert example["question"].endswith("find B=")
        assert example["scores"] == {example["answer"]: 1.0, f"So: {example['answer']}.": 1.0, "": 0.0, "zzz": 0.0}
    assert main(["tasks", "show", "chain", "--examples", "1"]) == OK
    assert "1.0   for 'E= " in capsys.readouterr().out


def test_the_list_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["tasks", "list"]) == OK
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert " " * 16 + "of change along some of its paths." in lines


def test_a_file_and_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "1+1?", "answer": 2}')
    files = ["--set", f"train={path}", "--set", f"test={path}"]
    assert main(["tasks", "show", "file", *files, "--set", "verifier=number", "--examples", "1"]) == OK
    assert "question: 1+1?\nanswer:   2\n  1.0   for '2'" in capsys.readouterr().out
    assert main(["tasks", "show"]) == BAD_INPUT
    assert "NAME is one of chain, tree" in capsys.readouterr().err
    assert main(["tasks", "show", "fiel"]) == BAD_INPUT
    assert "did you mean 'file'?" in capsys.readouterr().err
    assert main(["tasks", "show", "file"]) == BAD_INPUT
    assert "train: is missing" in capsys.readouterr().err
