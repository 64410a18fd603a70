"""Opens a trained graph for questions: its engine, its adapters, and the server that drives them."""

from __future__ import annotations

from neuromas.adapters.ref import AdapterRef
from neuromas.base.resolve import resolve_base
from neuromas.cluster.setup import set_threads
from neuromas.preflight import check_run
from neuromas.rollout.engine import Engine
from neuromas.rollout.prompt import Renderer, make_renderer
from neuromas.rollout.worker import start_engine
from neuromas.serving.graph_server import Graph, GraphServer
from neuromas.trained import Trained
from neuromas.training.location import read_topology


def open_server(trained: Trained, name: str) -> GraphServer:
    """Return a server of a trained graph, its engine loaded and its adapters published.

    Args:
        trained: the graph.
        name: of the model, to clients.

    Raises:
        SpecError: the base or the engine do not fit, with all reasons.
        NeuroMASError: the checkpoint cannot be read, or the engine did not start.
    """
    spec, graph = trained.as_run(), trained.topology
    preflight = check_run(spec, read_topology)
    set_threads(spec.engine.threads)
    base = resolve_base(spec.base)
    refs = {adapter: AdapterRef(adapter, 0, name) for adapter in graph.adapters}

    def make_engine() -> tuple[Engine, Renderer]:
        from neuromas.training.servable import plain_loras

        loras = plain_loras(trained.checkpoint, base, spec.adapter, spec.seed)
        slots = spec.engine.max_adapters or preflight.max_adapters
        engine = start_engine(base, spec.engine, slots, spec.adapter.rank, spec.adapter.targets)
        engine.publish({refs[adapter]: lora for adapter, lora in loras.items()})
        return engine, make_renderer(spec.prompt, base)

    return GraphServer(make_engine, Graph(name, graph, dict(refs), spec.sampling))
