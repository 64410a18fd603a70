"""What is the same in all steps of a stage, and what TRL is told of it. Does not import TRL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuromas.errors import TrainingError
from neuromas.spec.machine import RuntimeSpec
from neuromas.spec.training import TrainingSpec
from neuromas.training.step_plan import Seats

TRACKED_PROJECT: Final = "neuromas"
"""What trackers file our runs under, unless the user's environment says otherwise."""


@dataclass(frozen=True, slots=True)
class StageSettings:
    """What is the same in all steps of a stage.

    Attributes:
        seats: the graph's Nodes.
        max_tokens: largest token budget of a Node.
        top_p: nucleus mass of the sampling.
        seed: of the run.
        stage: index of the stage.
        steps: length of the stage in optimizer steps.
        first_step: steps done before (a resumed stage).
        warmup: whether the learning rate warms up.
        decay: whether it falls towards the end.
        report_to: trackers, by TRL's names.
        folder: where trackers write.
        on_cpu: keep the trainer off the GPU.
        processes: data-parallel processes.
        name: of run and stage, for trackers.
    """

    seats: Seats
    max_tokens: int
    top_p: float
    seed: int
    stage: int
    steps: int
    first_step: int
    warmup: bool
    decay: bool
    report_to: tuple[str, ...]
    folder: Path
    on_cpu: bool
    processes: int = 1
    name: str = "stage"


def stays_on_cpu(runtime: RuntimeSpec) -> bool:
    """Return whether the trainer keeps off the GPU: on Ray where the learner was given none, else never.

    One process that does everything uses the GPU that it sees.
    """
    return runtime.type == "ray" and runtime.gpus_per_learner == 0


def trl_arguments(spec: TrainingSpec, settings: StageSettings) -> dict[str, Any]:
    """Return the arguments of TRL's GRPOConfig for a stage.

    Raises:
        TrainingError: the prompts of a step cannot be shared out among the processes.
    """
    processes = settings.processes
    if spec.prompts_per_step % processes:
        raise TrainingError(
            f"training.prompts_per_step is {spec.prompts_per_step}, expected a multiple of the {processes} learners, "
            "so that each holds whole groups"
        )
    return dict(  # noqa: C408 - reads as the call it stands for
        output_dir=str(settings.folder),
        per_device_train_batch_size=spec.prompts_per_step // processes * spec.group_size,
        gradient_accumulation_steps=1,
        num_generations=spec.group_size,
        num_iterations=spec.num_iterations,
        max_completion_length=settings.max_tokens,
        max_steps=settings.steps,
        learning_rate=spec.learning_rate,
        max_grad_norm=0.0,  # clipped per adapter
        beta=0.0,
        scale_rewards="none",  # the advantages are ours
        vllm_importance_sampling_correction=spec.old_logprobs == "trainer",
        vllm_importance_sampling_mode=spec.importance_sampling,
        temperature=1.0,  # each Node's own, in the scoring head
        gradient_checkpointing=spec.gradient_checkpointing,
        seed=settings.seed,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        use_cpu=settings.on_cpu,
        bf16=False,
        logging_steps=1,
        report_to=list(settings.report_to),
        project=TRACKED_PROJECT,
        run_name=settings.name,
        save_strategy="no",
        disable_tqdm=True,
    )
