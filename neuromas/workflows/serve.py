"""serve(): a trained graph as an OpenAI-compatible model, beside whatever else this process does."""

from __future__ import annotations

from pathlib import Path

from neuromas.checkpoints.trained import find_trained
from neuromas.serving.endpoint import open_server
from neuromas.serving.served_graph import ServedGraph, listen
from neuromas.spec.machine import EngineType


def serve(
    source: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    name: str | None = None,
    engine: EngineType | None = None,
) -> ServedGraph:
    """Serve a trained graph over HTTP from threads of this process, until it is closed.

    Args:
        source: a run folder (its last checkpoint) or a checkpoint.
        host: address to bind; nobody is asked for a key, so anything but this machine's own opens it to the network.
        port: 0 = a free one.
        name: of the model; None = the run's.
        engine: what answers; None = the run's own.

    Raises:
        CheckpointError: there is no checkpoint, or it is altered.
        SpecError: the address cannot be bound.
        NeuroMASError: the engine did not start.
    """
    trained = find_trained(Path(source)).on_machine(engine)
    listener = listen(host, port)
    try:
        server = open_server(trained, name or trained.spec.name)
    except BaseException:
        listener.close()
        raise
    return ServedGraph(server, listener, name or trained.spec.name)
