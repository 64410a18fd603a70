"""Opens trained graphs for questions: the engine they share, their weights, and the server that drives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from neuromas.base.resolve import resolve_base
from neuromas.checkpoints.trained import TrainedCheckpoint, find_trained
from neuromas.cluster.threads import serving_share, set_threads
from neuromas.engines.noise import quiet_libraries
from neuromas.engines.setup import EngineSetup
from neuromas.errors import AdapterError
from neuromas.rollout.engine import Engine
from neuromas.rollout.prompt import make_renderer
from neuromas.run.preflight import check_run
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServableGraph
from neuromas.serving.group import EngineGroup, GraphSource, slots_for
from neuromas.serving.load import ServerLimits


def engine_setup(trained: TrainedCheckpoint) -> EngineSetup:
    """Return the engine that a trained graph needs; graphs with equal setups can share one."""
    return EngineSetup.of(trained.spec, resolve_base(trained.spec.base), serves=True)


def load_graph(trained: TrainedCheckpoint, name: str, version: str = "") -> ServableGraph:
    """Return a trained graph with its weights.

    Args:
        trained: the graph.
        name: of the model, to clients.
        version: of the checkpoint, for people; "" = the name of its folder.

    Raises:
        SpecError: the base or the engine do not fit, with all reasons.
        NeuroMASError: the checkpoint cannot be read.
    """
    from neuromas.checkpoints.servable import plain_loras

    spec = trained.as_run()
    check_run(spec, find_trained, (), serves=True)
    base = resolve_base(spec.base)
    return ServableGraph(
        name=name,
        topology=trained.topology,
        adapters=plain_loras(trained.checkpoint, base, spec.adapters, spec.seed),
        sampling=spec.sampling,
        renderer=make_renderer(spec.prompt, base),
        version=version or trained.checkpoint.name,
    )


def open_server(
    trained: TrainedCheckpoint, name: str, *, slots: int | None = None, limits: ServerLimits | None = None
) -> GraphServer:
    """Return a server of a trained graph, its engine loaded and its adapters published.

    Args:
        trained: the graph.
        name: of the model, to clients.
        slots: adapter versions that the engine holds; None = enough for this graph and a newer version of it.
        limits: how much is taken on; None = the usual.

    Raises:
        SpecError: the base or the engine do not fit, with all reasons.
        NeuroMASError: the checkpoint cannot be read, or the engine did not start.
    """
    quiet_libraries()
    check_run(trained.as_run(), find_trained, ())
    setup = engine_setup(trained)
    set_threads(serving_share(setup.engine.threads).count())
    slots = slots or slots_for(len(trained.topology.adapters))
    server = GraphServer(partial(CheckpointOpener().start, setup, slots), limits)
    try:
        server.put(load_graph(trained, name)).result()
    except BaseException:
        server.close(drain_s=0)
        raise
    return server


@dataclass(frozen=True, slots=True)
class CheckpointOpener:
    """Starts real engines and loads graphs from checkpoints; see ``serving.group.Opener``."""

    def start(self, setup: EngineSetup, slots: int) -> Engine:
        """Return a running engine."""
        set_threads(serving_share(setup.engine.threads).count())
        return setup.start(slots)

    def load(self, setup: EngineSetup, source: GraphSource) -> ServableGraph:
        """Return the graph of a checkpoint.

        Raises:
            AdapterError: the checkpoint needs another engine than this one.
            NeuroMASError: it cannot be read.
        """
        trained = find_trained(Path(source.checkpoint))
        needed = engine_setup(trained)
        if (needed.base_folder, needed.rank, needed.targets) != (setup.base_folder, setup.rank, setup.targets):
            raise AdapterError(
                f"checkpoint {source.checkpoint} needs base {needed.base_folder.name}, rank {needed.rank} and targets "
                f"{', '.join(needed.targets)}; the engine has {setup.base_folder.name}, {setup.rank} and "
                f"{', '.join(setup.targets)}"
            )
        return load_graph(trained, source.name, source.version)


def group_graphs(
    wanted: Sequence[GraphSource],
    *,
    replicas: Mapping[str, tuple[int, int]] | None = None,
    slots: int | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    limits: ServerLimits | None = None,
) -> tuple[EngineGroup, ...]:
    """Return deployments of graphs, those that can share an engine together.

    Args:
        wanted: the graphs, names unique.
        replicas: graph name -> (least, most) copies, 1 and 1 where it is missing; a group takes the largest.
        slots: adapter versions that each engine holds; None = enough for all its graphs and a newer version of each.
        cpus: processors that each copy claims of the cluster.
        gpus: GPUs that each copy claims; None = what the runs gave each rollout worker.
        limits: of each copy; None = the usual.

    Raises:
        AdapterError: the slots do not suffice for the graphs that share an engine.
        NeuroMASError: a checkpoint cannot be read.
    """
    shared: dict[EngineSetup, list[GraphSource]] = {}
    adapters: dict[EngineSetup, int] = {}
    for source in wanted:
        trained = find_trained(Path(source.checkpoint))
        setup = engine_setup(trained)
        setup = setup if gpus is None else replace(setup, gpus=gpus)
        shared.setdefault(setup, []).append(source)
        adapters[setup] = adapters.get(setup, 0) + len(trained.topology.adapters)
    groups = []
    for setup, graphs in shared.items():
        if slots is not None and slots < adapters[setup]:
            names = ", ".join(source.name for source in graphs)
            raise AdapterError(
                f"the graphs {names} have {adapters[setup]} adapters together, their engine has {slots} slots; "
                "serve fewer graphs or raise the number of slots"
            )
        bounds = [(replicas or {}).get(source.name, (1, 1)) for source in graphs]
        least = max(low for low, _ in bounds)
        groups.append(
            EngineGroup(
                setup=setup,
                graphs=tuple(graphs),
                slots=slots or slots_for(adapters[setup]),
                replicas=least,
                max_replicas=max(least, *(high for _, high in bounds)),
                cpus=cpus,
                limits=limits or ServerLimits(),
            )
        )
    return tuple(groups)
