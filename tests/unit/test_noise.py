"""What libraries may say: decided in one place, in a fresh process, where a script's own settings stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SHOWN = """
import json, logging, os, warnings
from neuromas.engines.noise import quiet_libraries
{own}
for _ in range(2):
    quiet_libraries()
names = ("root", "transformers", "torch", "vllm", "trl", "own")
names = {{name: logging.getLogger(name).level for name in names}}
names |= {{name: os.environ.get(name) for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TORCH_CPP_LOG_LEVEL",
                                                   "TRANSFORMERS_VERBOSITY", "VLLM_LOGGING_LEVEL", "TQDM_DISABLE")}}
print(json.dumps(names))
"""
QUIET = {
    "root": 30,
    "transformers": 40,
    "torch": 40,
    "vllm": 40,
    "trl": 40,
    "own": 0,
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TQDM_DISABLE": None,
}
HEARD = dict.fromkeys(("transformers", "torch", "vllm", "trl"), 0) | dict.fromkeys(
    ("HF_HUB_DISABLE_PROGRESS_BARS", "TORCH_CPP_LOG_LEVEL", "TRANSFORMERS_VERBOSITY", "VLLM_LOGGING_LEVEL")
)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("", QUIET),
        ("logging.basicConfig(level=logging.INFO)", QUIET | HEARD | {"root": 20}),
        (
            "logging.getLogger('transformers').setLevel(logging.INFO); logging.getLogger('own').setLevel(10)",
            QUIET | {"transformers": 20, "TRANSFORMERS_VERBOSITY": None, "own": 10},
        ),
        ("os.environ['VLLM_LOGGING_LEVEL'] = 'DEBUG'", QUIET | {"VLLM_LOGGING_LEVEL": "DEBUG"}),
    ],
    ids=["nothing is set", "the script logs", "a library's level", "the environment"],
)
def test_settings_of_the_script_stay(own: str, expected: dict[str, object]) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in QUIET}
    done = subprocess.run([sys.executable, "-c", SHOWN.format(own=own)], env=clean, capture_output=True, check=True)
    assert json.loads(done.stdout) == expected
    assert done.stderr == b""
