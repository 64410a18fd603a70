"""Modules that must start fast load no machine-learning stack; each is imported in a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest

import neuromas

ROOT = Path(neuromas.__file__).parent
HEAVY = ("torch", "transformers", "peft", "trl", "vllm", "ray", "accelerate", "datasets")
LIGHT = (
    "neuromas",
    "neuromas.errors",
    "neuromas.losses.*",
    "neuromas.topology.*",
    "neuromas.spec.*",
    "neuromas.tasks.*",
    "neuromas.rollout.*",
    "neuromas.cli.*",
    "neuromas.journal.events",
    "neuromas.journal.lines",
    "neuromas.journal.folder",
    "neuromas.adapters.ref",
    "neuromas.growth.plan",
    "neuromas.growth.controller",
    "neuromas.training.advantage",
)


def modules(pattern: str) -> list[str]:
    """Names of the existing modules that a pattern stands for."""
    package = pattern.removesuffix(".*")
    place = ROOT.joinpath(*package.split(".")[1:])
    if pattern.endswith(".*"):
        return [package, *(f"{package}.{file.stem}" for file in sorted(place.glob("*.py")) if file.stem != "__init__")]
    return [pattern] if place.with_suffix(".py").exists() or (place / "__init__.py").exists() else []


def test_no_light_module_loads_a_heavy_package() -> None:
    names = [name for pattern in LIGHT for name in modules(pattern)]
    assert "neuromas.topology.graph" in names
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
    loaded = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]
    if loaded:
        sys.exit(f"importing {{name}} loads {{', '.join(loaded)}}")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_program_loads_the_module_of_the_command_that_is_asked_for_alone() -> None:
    script = """
import sys
from neuromas.cli.main import make_parser
make_parser().parse_args(["export", "x", "--out", "y"])
from neuromas.cli.program import COMMANDS
sys.exit(" ".join(module for module, _ in COMMANDS.values() if module in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.stderr.split() == ["neuromas.cli.export"]


@pytest.mark.parametrize("name", ["actors", "learner_actor", "coordinator"])
def test_an_actor_answers_before_it_loads_what_it_works_with(name: str) -> None:
    heavy = (*sorted({*HEAVY} - {"ray"}), "ray.train")
    script = f"import sys, neuromas.cluster.{name}; sys.exit(' '.join(m for m in {heavy!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.stderr.split() == []


STARTS = (
    "EngineSetup(Path(), EngineSpec(type='vllm'), 8, ()).start(1)",
    "EngineSetup(Path(), EngineSpec(type='transformers'), 8, ()).start(1)",
    "LearnerActor.start(LearnerActor.__new__(LearnerActor))",
    "open_runtime(RuntimeSetup(parse_run_spec(SPEC), Path(), None), print)",
)


@pytest.mark.parametrize("start", STARTS)
def test_no_garbage_is_looked_for_while_torch_is_imported(start: str) -> None:
    script = f"""
import gc, sys
from pathlib import Path
from neuromas.cluster.learner_actor import LearnerActor
from neuromas.cluster.runtime import RuntimeSetup, open_runtime
from neuromas.engines.setup import EngineSetup
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parse import parse_run_spec

SPEC = {{"topology": {{"chain": 1}}, "task": {{"type": "chain", "hops": 1}}, "runtime": {{"type": "local"}}}}

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise SystemExit(f"{{gc.isenabled()}}")

sys.meta_path.insert(0, Watch())
{start}
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.stderr == "False\n"


@pytest.mark.parametrize("name", neuromas.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(neuromas, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Agent'"):
        neuromas.Agent  # noqa: B018
