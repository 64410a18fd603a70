"""Where vLLM keeps its cache: the user's, as it does by itself, or a folder of one process where that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = """
import os
from neuromas.engines.vllm_start import prepare_environment
prepare_environment()
import vllm.envs
place = vllm.envs.VLLM_CACHE_ROOT
print(place, os.access(place, os.W_OK), oct(os.stat(place).st_mode & 0o777))
"""


def cache_of(**changes: str) -> tuple[str, str, str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME")
    }
    told = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment | changes, capture_output=True, text=True, check=True
    ).stdout
    place, is_writable, mode = told.split()[-3:]
    return place, is_writable, mode


@pytest.mark.parametrize("home", [{"HOME": "/dev/null"}, {"HOME": "/", "XDG_CACHE_HOME": "/dev/null"}])
def test_a_user_without_a_home_has_a_cache_that_goes_with_the_process(tmp_path: Path, home: dict[str, str]) -> None:
    place, is_writable, mode = cache_of(TMPDIR=str(tmp_path), **home)
    assert (Path(place).parent, is_writable, mode) == (tmp_path, "True", "0o700")
    assert not Path(place).exists()


def test_a_home_that_can_be_written_and_a_choice_of_the_users_stay(tmp_path: Path) -> None:
    assert cache_of(HOME=str(tmp_path))[:2] == (str(tmp_path / ".cache" / "vllm"), "True")
    (tmp_path / "mine").mkdir()
    assert cache_of(HOME="/dev/null", VLLM_CACHE_ROOT=str(tmp_path / "mine"))[0] == str(tmp_path / "mine")
