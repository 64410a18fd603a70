"""One process of a data-parallel stage, for test_trainer_parallel.py.

usage: python parallel_stage.py OUT SPEC_JSON, with torchrun's variables for more than one process
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from resumed_stage import make_client, stage_spec, train
from safetensors.torch import save_file

from neuromas.events import Event, StepDone
from neuromas.training import session
from neuromas.training.checkpoint import read_checkpoint
from neuromas.training.sampler import Alone, StepSampler


def main(out: Path, settings: dict[str, object]) -> None:
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    torch.set_num_threads(1)
    spec = stage_spec(**settings)
    metrics: list[dict[str, float]] = []
    gradients: dict[str, torch.Tensor] = {}
    original = session.StageSession._before_optimizer_step

    def capture(self: session.StageSession, step: int) -> torch.Tensor:
        for stack in self._bank.stacks():
            gradients[f"{step}/{stack.key}"] = stack.tensor.grad.clone()
        return original(self, step)

    session.StageSession._before_optimizer_step = capture  # type: ignore[method-assign]
    publish = StepSampler.publish

    def publish_everywhere(self: StepSampler, version: int) -> float:
        """Here every process has an engine of its own, where Ray's learners share theirs."""
        peers, self._peers = self._peers, Alone()
        try:
            return publish(self, version)
        finally:
            self._peers = peers

    StepSampler.publish = publish_everywhere  # type: ignore[method-assign]

    def note(event: Event) -> None:
        if isinstance(event, StepDone):
            metrics.append(event.to_document())

    result = train(spec, out, make_client(spec), on_event=note)
    if not dist.is_initialized() or dist.get_rank() == 0:
        save_file(dict(read_checkpoint(result.checkpoint).adapters), out / "adapters.safetensors")
        save_file(gradients, out / "gradients.safetensors")
        (out / "metrics.json").write_text(json.dumps(metrics))
    if dist.is_initialized():
        # What still holds the group keeps its threads running into the interpreter's end, where one that asks for the
        # GIL aborts the process.
        gc.collect()
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
