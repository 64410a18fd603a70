"""The API's process needs no machine-learning stack: it starts where none is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import neuromas

ROOT = Path(neuromas.__file__).parents[1]
HEAVY = ("torch", "transformers", "peft", "trl", "vllm", "ray", "accelerate", "datasets")


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_api_loads_and_checks_runs_without_any_heavy_package(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed here", name=name)

sys.meta_path.insert(0, Absent())
import neuromas.services.api.__main__
from neuromas.services.api.app import make_app
from neuromas.services.api.estimate import report
from neuromas.services.api.checked import check
from neuromas.services.settings import Settings
from neuromas.services.store.open import open_store
from neuromas.spec.parse import parse_run_spec

settings = Settings(data_dir=Path({str(tmp_path)!r}))
assert make_app(settings, open_store(settings)).openapi()["paths"]
growth = {{"levels": [1, 2], "plans": [{{"edits": [{{"edit": "append"}}]}}]}}
document = {{"topology": {{"chain": 2}}, "task": {{"type": "chain", "hops": 2}}, "growth": growth}}
spec = parse_run_spec(document)
checked = check(spec, {{}}, settings)
assert [len(graph.nodes) for graph in checked.graphs] == [2, 4]
assert report(spec.topology, checked, settings)["memory"]["adapter_bytes"] > 0
"""
    done = run(script)
    assert done.returncode == 0, done.stderr


def test_an_embedded_api_does_not_load_the_redis_client() -> None:
    done = run("import sys, neuromas.services.api.__main__; sys.exit('redis' in sys.modules)")
    assert done.returncode == 0, done.stderr
