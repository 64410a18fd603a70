"""A loss and a family of adapters added as docs/extending.md says, to a copy of the package: files, lines, a run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neuromas

PACKAGE = Path(neuromas.__file__).parent
PAGE = PACKAGE.parent / "docs" / "extending.md"

FAMILY_SPEC = '''
"""LoRA with a fixed A in a run spec."""

from typing import ClassVar, Literal

from pydantic import Field

from neuromas.adapters.families.contract import AdapterSpec, Parameters


class FixedSpec(AdapterSpec):
    """LoRA whose A stays as it was drawn."""

    title: ClassVar[str] = "LoRA with a fixed A"
    type: Literal["fixed"] = "fixed"
    width: int = Field(default=2, ge=1, le=64)
    """Rank of the pairs."""

    @property
    def served_rank(self):
        return self.width

    def num_parameters(self, shapes):
        return Parameters(self.width * sum(shape.out_features for shape in shapes))

    def pooled(self, count):
        return self.model_copy(update={"width": self.width * count})

    def make_map(self, positions, seed):
        from neuromas.adapters.families.fixed.map import FixedMap

        return FixedMap([position.name for position in positions], self.width, seed)
'''
FAMILY_MAP = '''
"""LoRA with a fixed A: only B is trained."""

import torch

from neuromas.adapters.families.map import SLOT, AdapterMap, Fixed, Owned, of_present, trained
from neuromas.adapters.initial import down_projection


class FixedMap(AdapterMap):
    """Per module a fixed A (N, r, in) and a trained B (N, out, r)."""

    def __init__(self, names, rank, seed):
        super().__init__(names, rank)
        self._seed, self._pairs = seed, {}

    def _make(self, shape, linear):
        starts = [down_projection(self._seed, name, shape.path, self.rank, shape.in_features) for name in self.names]
        a = Fixed(torch.stack(starts))
        b = trained(torch.zeros(self.num_adapters, shape.out_features, self.rank))
        self._pairs[shape.path] = a, b
        return {"neuromas_a": a, "neuromas_b": b}

    def pair(self, path, present):
        a, b = self._pairs[path]
        return of_present(a.tensor, present), of_present(b[SLOT], present)

    def tensors(self):
        return tuple(
            owned
            for path, (a, b) in self._pairs.items()
            for owned in (Owned(f"{path}/A", a.tensor), Owned(f"{path}/B", b[SLOT], is_update=True))
        )
'''


def loss_of_the_page() -> str:
    """Return the code of the section on losses."""
    section = PAGE.read_text(encoding="utf-8").split("## A loss\n")[1].split("\n## ")[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """A copy of the package with one more loss and one more family."""
    copy = tmp_path / "site" / "neuromas"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("services", "__pycache__"))
    losses = copy / "losses" / "registry.py"
    losses.write_text(losses.read_text() + "\n\n" + loss_of_the_page())
    families = copy / "adapters" / "families"
    (families / "fixed").mkdir()
    (families / "fixed" / "__init__.py").write_text('"""LoRA with a fixed A."""\n')
    (families / "fixed" / "spec.py").write_text(FAMILY_SPEC)
    (families / "fixed" / "map.py").write_text(FAMILY_MAP)
    registry = families / "registry.py"
    line = '    "fixed": import_module("neuromas.adapters.families.fixed.spec").FixedSpec,\n}\nDEFAULT'
    text = (
        registry.read_text()
        .replace("}\nDEFAULT", line)
        .replace("from functools", "from importlib import import_module\nfrom functools", 1)
    )
    registry.write_text(text)
    return copy.parent


def test_a_new_loss_and_a_new_family_train_export_and_are_refused_by_their_own_bounds(
    extended: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "run.toml"
    spec.write_text(
        'name = "more"\ntopology = { chain = 2 }\ntask = { type = "chain", hops = 2 }\n'
        'adapter = { type = "fixed", width = 3, targets = ["q_proj"] }\nengine = { type = "transformers" }\n'
        'runtime = { type = "local" }\nevaluation = { examples = 4 }\n'
        'training = { loss = "squared", steps = 2, prompts_per_step = 4, group_size = 4, learning_rate = 0.01 }\n'
    )

    # In one process: imports are paid once.
    commands = [
        ["train", str(spec), "--out", str(tmp_path / "runs"), "--json"],
        ["export", str(tmp_path / "runs" / "more"), "--out", str(tmp_path / "exported")],
        ["validate", str(spec), "--set", "adapter.width=65"],
    ]
    code = f"import sys; from neuromas.cli.main import main; sys.exit(repr([main(words) for words in {commands!r}]))"
    environment = os.environ | {"PYTHONPATH": str(extended)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    *said, codes = done.stderr.splitlines()
    assert codes == "[0, 0, 2]", done.stderr
    # 4 layers of the tiny base, q_proj of 64 outputs, 3 columns, 2 nodes
    assert json.JSONDecoder().raw_decode(done.stdout)[0]["trainable_parameters"] == 4 * 64 * 3 * 2
    assert json.loads((tmp_path / "exported/adapters/n1/adapter_config.json").read_text())["r"] == 3
    assert any("adapter.width" in line for line in said)


def test_the_page_names_files_that_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:neuromas|services|tests)/[\w/.]+)`", text))
    assert named
    assert {name for name in named if not (PACKAGE.parent / name).exists()} == set()
