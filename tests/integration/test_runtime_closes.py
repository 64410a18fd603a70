"""What a runtime has opened when it cannot be loaded to the end is closed: in a notebook the process goes on."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from neuromas.cluster.runtime import RuntimeSetup, open_runtime
from neuromas.engines.scripted import ScriptedEngine
from neuromas.engines.setup import EngineSetup
from neuromas.journal.events import Event, Phase
from neuromas.journal.folder import RunFolder
from neuromas.rollout.engine import Engine
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.spec.parse import parse_run_spec


class Watched(ScriptedEngine):
    """Counts how often it was closed."""

    def __init__(self) -> None:
        super().__init__(lambda call: (1,), lambda call: 1)
        self.num_closed = 0

    def close(self) -> None:
        super().close()
        self.num_closed += 1


@dataclass(frozen=True)
class WatchedSetup(EngineSetup):
    watched: Watched | None = None

    def start(self, slots: int) -> Engine:
        assert self.watched is not None
        return self.watched


def test_an_engine_is_closed_when_loading_the_learner_is_broken_off(tmp_path: Path) -> None:
    spec = parse_run_spec(
        {
            "topology": {"chain": 1},
            "task": {"type": "chain", "hops": 1},
            "engine": {"type": "transformers"},
            "runtime": {"type": "local"},
        }
    )
    folder = tmp_path / "run"
    RunFolder(folder).create(spec.model_dump(mode="json"))
    worker = worker_setup(spec, check_run(spec, lambda _: pytest.fail("there are no grafts")))
    engine = Watched()
    own = WatchedSetup(
        worker.engine.base_folder, worker.engine.engine, worker.engine.rank, worker.engine.targets, watched=engine
    )

    def interrupted(event: Event) -> None:
        if isinstance(event, Phase) and event.name == "loading the base for training":
            assert engine.num_closed == 0
            raise KeyboardInterrupt

    setup = RuntimeSetup(spec, folder, type(worker)(own, worker.slots, worker.prompt, worker.task))
    with pytest.raises(KeyboardInterrupt):
        open_runtime(setup, interrupted)
    assert engine.num_closed == 1
