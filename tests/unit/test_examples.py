"""Every shipped example parses, and is what its comments say."""

from pathlib import Path

import pytest

import neuromas
from neuromas.spec.load import load_spec, load_topology

EXAMPLES = Path(neuromas.__file__).parents[1] / "examples"
SPECS = sorted(EXAMPLES.glob("*.toml"))
TOPOLOGIES = sorted((EXAMPLES / "topologies").glob("*.json"))


def test_there_are_examples() -> None:
    assert {path.stem for path in SPECS} == {"quickstart", "growth", "tree", "layered", "gpu-qwen", "real-sums"}
    assert {path.stem for path in TOPOLOGIES} == {"diamond", "shared-voters", "random"}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_spec_parses_and_is_named_after_its_file(path: Path) -> None:
    assert load_spec(path).name == path.stem


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.stem)
def test_topology_parses(path: Path) -> None:
    assert load_topology(path).output


def test_quickstart_is_five_nodes_of_rank_one_for_sixty_steps() -> None:
    spec = load_spec(EXAMPLES / "quickstart.toml")
    assert len(spec.topology.adapters) == 5
    assert (spec.adapter.rank, spec.training.steps, spec.seed) == (1, 60, 0)
    assert spec.training.prompts_per_step * spec.training.group_size == 192


def test_voters_share_one_adapter() -> None:
    assert load_topology(EXAMPLES / "topologies" / "shared-voters.json").adapters == ("voter", "judge")
