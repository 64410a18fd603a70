"""What a rollout worker is made of, as data that travels to the process which makes it. Loads no Ray."""

from __future__ import annotations

from dataclasses import dataclass

from neuromas.engines.setup import EngineSetup
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.worker import RolloutWorker
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.registry import make_task
from neuromas.tasks.spec import TaskSpec

# Scoring does not depend on the seed: it selects which examples a task draws, and a batch brings its examples.
_SCORING_SEED = 0


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a RolloutWorker is made of.

    Attributes:
        engine: its engine.
        slots: adapter versions that the engine holds at a time.
        prompt: how prompts are written.
        task: scores batches that bring no task of their own.
    """

    engine: EngineSetup
    slots: int
    prompt: PromptSpec
    task: TaskSpec

    def make(self) -> RolloutWorker:
        """Return a worker with its engine loaded; takes seconds.

        Raises:
            BaseModelError: the engine cannot run the base.
            EngineError: the engine did not start.
        """
        renderer = make_renderer(self.prompt, self.engine.base_folder)
        task = make_task(self.task, _SCORING_SEED)
        return RolloutWorker(self.engine.start(self.slots), renderer, task)
