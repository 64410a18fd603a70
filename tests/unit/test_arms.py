from pathlib import Path

import pytest

import neuromas
from neuromas.errors import SpecError
from neuromas.spec.load import load_spec
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.studies.arms import ARMS, arm, default_arms
from neuromas.studies.compare import make_group, with_local_runtime
from neuromas.topology.builders import chain

GROWTH_ARMS = ("scratch", "scratch-levels", "parent", "parent-levels")
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
    assert default_arms(quickstart) == ("graph", "untrained", "call", "single", "vote", "shared")
    assert default_arms(growth) == ("grown", "scratch", "parent")


def test_single_agent_votes_with_as_many_answers_as_the_graph_has_nodes(quickstart: RunSpec) -> None:
    assert make("single", quickstart).evaluation.votes == 5
    assert (arm("vote").of, arm("vote").is_trained, arm("call").is_trained) == ("single", True, False)


def test_long_agent_may_say_in_one_message_what_all_nodes_may(quickstart: RunSpec) -> None:
    long = make("long", quickstart)
    assert [node.max_tokens for node in long.topology.nodes] == [5 * quickstart.sampling.max_tokens]
    assert (long.adapter.rank, long.training.steps) == (5, 60)
    narrow = quickstart.model_copy(update={"engine": quickstart.engine.model_copy(update={"max_model_len": 40})})
    with pytest.raises(SpecError, match="the arm 'long' needs more than 40"):
        make("long", narrow)


def test_self_refine_is_one_model_that_reads_its_own_last_message(quickstart: RunSpec) -> None:
    refine = make("refine", quickstart)
    assert refine.topology.adapters == ("shared",)
    assert refine.topology.layers == (("n1",), ("n2",), ("n3",), ("n4",), ("n5",))
    assert (refine.adapter.rank, calls(refine)) == (5, 300)


@pytest.mark.parametrize(
    ("nodes", "widths"), [(3, [2, 1]), (4, [3, 1]), (5, [2, 2, 1]), (6, [3, 2, 1]), (7, [2, 2, 2, 1])]
)
def test_debate_makes_as_many_calls_in_rounds(quickstart: RunSpec, nodes: int, widths: list[int]) -> None:
    debate = make("debate", quickstart.model_copy(update={"topology": chain(nodes)}))
    assert [len(layer) for layer in debate.topology.layers] == widths
    assert debate.topology.adapters == ("shared",)
    assert debate.adapter.rank == nodes


def test_two_calls_are_no_debate(quickstart: RunSpec) -> None:
    with pytest.raises(SpecError, match="the arm 'debate' needs at least 3 calls"):
        make("debate", quickstart.model_copy(update={"topology": chain(2)}))


def test_training_in_turn_needs_a_step_for_each_adapter_and_no_growth(quickstart: RunSpec, growth: RunSpec) -> None:
    assert make("in-turn", quickstart).training.in_turn
    few = quickstart.model_copy(update={"training": quickstart.training.model_copy(update={"steps": 4})})
    with pytest.raises(SpecError, match="got 4; the arm 'in-turn' needs at least 5"):
        make("in-turn", few)
    for spec, changes, message in (
        (quickstart, {"steps": 4, "in_turn": True}, "training.steps: got 4; with in_turn allowed is at least 5"),
        (growth, {"in_turn": True}, "training.in_turn: got true; a graph that grows trains jointly"),
    ):
        document = spec.model_dump(mode="json")
        document["training"] |= changes
        with pytest.raises(SpecError, match=message):
            parse_run_spec(document)


def test_unknown_arm_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(SpecError, match="got 'best'; allowed are graph, untrained"):
        arm("best")


def test_untrained_is_read_off_the_trained_graph(quickstart: RunSpec) -> None:
    group = make_group(quickstart, seeds=(0, 3))
    assert [job.name for job in group.jobs] == [
        f"quickstart-{name}-s{seed}" for seed in (0, 3) for name in ("graph", "single", "shared")
    ]
    assert [job.seed for job in group.jobs] == [0, 0, 0, 3, 3, 3]
    for name, other in (("untrained", "graph"), ("vote", "single"), ("debate-untrained", "debate")):
        with pytest.raises(SpecError, match=f"'{name}' is read off the run of '{other}'; name both"):
            make_group(quickstart, (name,))


def test_every_arm_makes_a_valid_spec(quickstart: RunSpec, growth: RunSpec) -> None:
    for name, entry in ARMS.items():
        if entry.make is not None:
            made = entry.make(growth if name in ("grown", *GROWTH_ARMS) else quickstart)
            assert RunSpec.model_validate_json(with_local_runtime(made).model_dump_json()).task == made.task
