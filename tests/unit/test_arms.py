from pathlib import Path

import pytest

import neuromas
from neuromas.errors import SpecError
from neuromas.spec.load import load_spec
from neuromas.spec.run import RunSpec
from neuromas.studies.arms import ARMS, arm, default_arms
from neuromas.studies.compare import make_group, with_local_runtime

EXAMPLES = Path(neuromas.__file__).parents[1] / "examples"


@pytest.fixture
def quickstart() -> RunSpec:
    return load_spec(EXAMPLES / "quickstart.toml")


@pytest.fixture
def growth() -> RunSpec:
    return load_spec(EXAMPLES / "growth.toml")


def make(name: str, spec: RunSpec) -> RunSpec:
    build = arm(name).make
    assert build is not None
    return build(spec)


def calls(spec: RunSpec) -> int:
    return spec.training.steps * len(spec.topology.nodes)


def pooled_rank(spec: RunSpec) -> int:
    return spec.adapter.rank * len(spec.topology.adapters)


def test_single_agent_has_the_same_parameters_and_calls(quickstart: RunSpec) -> None:
    single = make("single", quickstart)
    assert len(single.topology.nodes) == 1
    assert (pooled_rank(single), calls(single)) == (5, 300)
    assert (pooled_rank(quickstart), calls(quickstart)) == (5, 300)


def test_shared_adapter_has_the_same_graph_and_parameters(quickstart: RunSpec) -> None:
    shared = make("shared", quickstart)
    assert shared.topology.edges == quickstart.topology.edges
    assert shared.topology.adapters == ("shared",)
    assert (shared.adapter.rank, shared.training.steps) == (5, 60)


def test_pooling_keeps_the_scale_of_the_adapters(quickstart: RunSpec) -> None:
    scaled = quickstart.model_copy(update={"adapter": quickstart.adapter.model_copy(update={"rank": 2, "alpha": 4.0})})
    pooled = make("shared", scaled).adapter
    assert (pooled.rank, pooled.alpha) == (10, 20.0)


def test_pooled_rank_beyond_what_engines_take_is_refused(quickstart: RunSpec) -> None:
    wide = quickstart.model_copy(update={"adapter": quickstart.adapter.model_copy(update={"rank": 256})})
    with pytest.raises(SpecError, match="exceed rank 512"):
        make("single", wide)


def test_controls_of_growth_have_the_final_or_the_first_graph(growth: RunSpec) -> None:
    sizes = {name: len(make(name, growth).topology.nodes) for name in ("grown", "scratch", "parent")}
    assert sizes == {"grown": 3, "scratch": 7, "parent": 3}
    assert make("scratch", growth).growth is None
    assert make("scratch-levels", growth).growth is not None
    assert make("scratch-levels", growth).growth.plans == ()  # type: ignore[union-attr]
    assert len(make("scratch-levels", growth).topology.nodes) == 7


def test_arms_of_growth_need_a_spec_that_grows(quickstart: RunSpec) -> None:
    with pytest.raises(SpecError, match="needs a spec that grows"):
        make("grown", quickstart)


def test_defaults_fit_the_spec(quickstart: RunSpec, growth: RunSpec) -> None:
    assert default_arms(quickstart) == ("graph", "untrained", "single", "shared")
    assert default_arms(growth) == ("grown", "scratch", "parent")


def test_unknown_arm_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(SpecError, match="got 'best'; allowed are graph, untrained"):
        arm("best")


def test_untrained_is_read_off_the_trained_graph(quickstart: RunSpec) -> None:
    group = make_group(quickstart, seeds=(0, 3))
    assert [job.name for job in group.jobs] == [
        f"quickstart-{name}-s{seed}" for seed in (0, 3) for name in ("graph", "single", "shared")
    ]
    assert [job.seed for job in group.jobs] == [0, 0, 0, 3, 3, 3]
    with pytest.raises(SpecError, match="name both"):
        make_group(quickstart, ("untrained",))


def test_every_arm_makes_a_valid_spec(quickstart: RunSpec, growth: RunSpec) -> None:
    for name, entry in ARMS.items():
        if entry.make is not None:
            made = entry.make(growth if name not in ("graph", "single", "shared") else quickstart)
            assert RunSpec.model_validate_json(with_local_runtime(made).model_dump_json()).task == made.task
