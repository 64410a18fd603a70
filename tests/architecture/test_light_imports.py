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


@pytest.mark.parametrize("name", neuromas.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(neuromas, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Agent'"):
        neuromas.Agent  # noqa: B018
