"""Groups of graphs on one engine: what shares an engine, what a change replaces, what loading makes of failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from neuromas.engines.scripted import ScriptedEngine
from neuromas.engines.setup import EngineSetup
from neuromas.errors import CheckpointError
from neuromas.rollout.engine import EngineCall
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.renderer import Renderer
from neuromas.serving.deployment_status import GraphStatus, group_status
from neuromas.serving.graph_loader import GraphLoader, LoadReport
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServableGraph
from neuromas.serving.group import EngineGroup, GraphSource, graph_sources, slots_for
from neuromas.serving.load import ServerLimits
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.topology.builders import chain

SETUP = EngineSetup(Path("/bases/tiny"), EngineSpec(type="vllm"), 1, ("q_proj", "v_proj"))


def group(**changes: object) -> EngineGroup:
    return replace(EngineGroup(SETUP, (GraphSource("g", "runs/g"),), slots=8), **changes)  # type: ignore[arg-type]


def test_equal_setups_have_one_name_and_others_another() -> None:
    assert SETUP.name == replace(SETUP, targets=("v_proj", "q_proj")).name
    others = [
        replace(SETUP, rank=8),
        replace(SETUP, base_folder=Path("/bases/other")),
        replace(SETUP, engine=EngineSpec(type="vllm", max_model_len=256)),
        replace(SETUP, gpus=1),
    ]
    assert len({SETUP.name, *(other.name for other in others)}) == 5
    assert group().route == f"/{SETUP.name}"


def test_user_config_is_json_that_gives_the_graphs_back() -> None:
    graphs = (GraphSource("g", "runs/g", "ckpt_1", 3), GraphSource("h", "runs/h"))
    assert graph_sources(json.loads(json.dumps(group(graphs=graphs).user_config))) == graphs


def test_slots_leave_room_to_swap_everything_and_seldom_change() -> None:
    assert [slots_for(count) for count in (0, 1, 4, 5, 8, 9, 33)] == [8, 8, 8, 16, 16, 32, 128]


class TestServeApplication:
    """What Ray Serve is told; no cluster is needed for that."""

    def version(self, group: EngineGroup) -> str:
        from neuromas.serving.deploy import application
        from neuromas.serving.endpoint import CheckpointOpener

        return str(application(group, CheckpointOpener(), "token")._bound_deployment._version)

    def test_graphs_and_copies_change_in_place_and_engines_by_new_replicas(self) -> None:
        same = [group(), group(graphs=(GraphSource("h", "runs/h", "", 1),)), group(replicas=2, max_replicas=5)]
        assert len({self.version(one) for one in same}) == 1
        assert self.version(group(slots=16)) != self.version(group())
        assert self.version(group(limits=ServerLimits(max_running=3))) != self.version(group())

    def test_copies_follow_the_load_where_that_is_allowed(self) -> None:
        from neuromas.serving.deploy import application
        from neuromas.serving.endpoint import CheckpointOpener

        fixed = application(group(replicas=2, max_replicas=2), CheckpointOpener(), "token")._bound_deployment
        assert fixed._deployment_config.autoscaling_config is None
        assert fixed._deployment_config.num_replicas == 2
        scaled = application(group(replicas=1, max_replicas=4), CheckpointOpener(), "token")._bound_deployment
        autoscaling = scaled._deployment_config.autoscaling_config
        assert (autoscaling.min_replicas, autoscaling.max_replicas) == (1, 4)


@dataclass
class Library:
    """Loads graphs by the name of their checkpoint; those called broken cannot be read."""

    renderer: Renderer
    loaded: list[GraphSource] = field(default_factory=list)

    def load(self, source: GraphSource) -> ServableGraph:
        self.loaded.append(source)
        if source.checkpoint == "broken":
            raise CheckpointError("it is broken")
        topology = chain(1)
        return ServableGraph(source.name, topology, {"n1": None}, SamplingSpec(), self.renderer, source.version)


@pytest.fixture
def library(word_base: Path) -> Library:
    return Library(make_renderer(PromptSpec(), word_base))


@pytest.fixture
def server() -> Iterator[GraphServer]:
    def respond(call: EngineCall) -> list[int]:
        return [4]

    server = GraphServer(lambda: ScriptedEngine(respond))
    yield server
    server.close()


def test_a_shelf_brings_swaps_and_removes_graphs_and_leaves_the_others_alone(
    server: GraphServer, library: Library
) -> None:
    loader = GraphLoader(server, library.load)
    first = (GraphSource("g", "one", "v1", 1), GraphSource("h", "two", "v1", 1))
    loader.want(first)
    assert loader.report()["g"] == LoadReport(wanted=1)
    loader.follow()
    assert set(server.graphs) == {"g", "h"}
    loader.want((replace(first[0], checkpoint="three", version="v2", generation=2),))
    loader.follow()
    assert {name: graph.version for name, graph in server.graphs.items()} == {"g": "v2"}
    assert loader.report() == {"g": LoadReport(wanted=2, served=2, version="v2")}
    assert [source.checkpoint for source in library.loaded] == ["one", "two", "three"]


def test_a_graph_that_fails_is_reported_and_the_old_version_stays(server: GraphServer, library: Library) -> None:
    loader = GraphLoader(server, library.load)
    loader.want([GraphSource("g", "one", "v1", 1)])
    loader.follow()
    loader.want([GraphSource("g", "broken", "v2", 2), GraphSource("h", "two", "", 1)])
    loader.follow()
    reports = loader.report()
    assert reports["g"] == LoadReport(wanted=2, served=1, version="v1", error="it is broken")
    assert reports["h"].is_ready
    loader.follow()
    assert len(library.loaded) == 3, "what has failed is not tried again by itself"
    loader.want([GraphSource("g", "one", "v1", 3)])
    loader.follow()
    assert loader.report()["g"].is_ready


def reply(load: int = 0, **graphs: tuple[int, int | None, str | None]) -> dict:
    return {
        "graphs": {
            name: {"wanted": wanted, "served": served, "version": "", "error": error}
            for name, (wanted, served, error) in graphs.items()
        },
        "load": {"running": load, "mean_latency_s": 0.5},
    }


def test_a_graph_is_ready_when_every_replica_serves_what_is_wanted() -> None:
    status = group_status("e", "RUNNING", "", [reply(2, g=(2, 2, None)), reply(3, g=(2, 1, None))])
    assert status.graphs["g"] == GraphStatus(wanted=2, served=1, is_ready=False)
    assert (status.state, status.replicas, status.load) == ("running", 2, {"running": 5})
    status = group_status("e", "RUNNING", "", [reply(g=(2, 2, None)), reply(g=(1, 1, None))])
    assert not status.graphs["g"].is_ready, "one replica has not heard of the swap yet"
    status = group_status("e", "RUNNING", "", [reply(g=(2, 2, None)), reply(g=(2, None, "broken"))])
    assert status.graphs["g"] == GraphStatus(wanted=2, served=None, is_ready=False, error="broken")
    status = group_status("e", "RUNNING", "", [reply(g=(2, 1, None)), reply(g=(1, None, "broken"))])
    assert status.graphs["g"].error is None  # that replica has not heard of generation 2 yet
    assert group_status("e", "RUNNING", "", [reply(g=(2, 2, None))]).graphs["g"].is_ready
    assert group_status("e", "DEPLOY_FAILED", "no memory", []).state == "failed"
