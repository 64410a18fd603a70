"""What TRL is told of a stage. Does not import TRL."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from neuromas.errors import TrainingError
from neuromas.growth.stage import Stage
from neuromas.journal.folder import TRACKING_FOLDER
from neuromas.spec.machine import RuntimeSpec
from neuromas.spec.run import RunSpec
from neuromas.training.memory import update_memory

TRACKED_PROJECT: Final = "neuromas"
"""What trackers file our runs under, unless the user's environment says otherwise."""


def stays_on_cpu(runtime: RuntimeSpec) -> bool:
    """Return whether the trainer keeps off the GPU: on Ray where the learner was given none, else never.

    One process that does everything uses the GPU that it sees.
    """
    return runtime.type == "ray" and runtime.gpus_per_learner == 0


def trl_arguments(spec: RunSpec, stage: Stage, folder: Path, max_tokens: int, processes: int = 1) -> dict[str, Any]:
    """Return the arguments of TRL's GRPOConfig for a stage.

    Args:
        spec: the run.
        stage: what to train.
        folder: of the run; trackers write in it.
        max_tokens: largest token budget of a Node.
        processes: data-parallel processes.

    Raises:
        TrainingError: the prompts of a step cannot be shared out among the processes.
    """
    training = spec.training
    if training.prompts_per_step % processes:
        raise TrainingError(
            f"training.prompts_per_step is {training.prompts_per_step}, expected a multiple of the {processes} "
            "learners, so that each holds whole groups"
        )
    return dict(  # noqa: C408 - reads as the call it stands for
        output_dir=str(folder / TRACKING_FOLDER / stage.name),
        per_device_train_batch_size=training.prompts_per_step // processes * training.group_size,
        gradient_accumulation_steps=1,
        num_generations=training.group_size,
        num_iterations=training.num_iterations,
        max_completion_length=max_tokens,
        max_steps=stage.steps,
        learning_rate=training.learning_rate,
        max_grad_norm=0.0,  # clipped per adapter
        beta=0.0,
        scale_rewards="none",  # the advantages are ours
        vllm_importance_sampling_correction=training.old_logprobs == "trainer",
        vllm_importance_sampling_mode=training.importance_sampling,
        temperature=1.0,  # each Node's own, in the scoring head
        gradient_checkpointing=update_memory(spec).gradient_checkpointing,
        seed=spec.seed,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        use_cpu=stays_on_cpu(spec.runtime),
        bf16=False,
        logging_steps=1,
        report_to=list(spec.tracking.report_to),
        project=TRACKED_PROJECT,
        run_name=f"{spec.name}/{stage.name}",
        save_strategy="no",
        disable_tqdm=True,
    )
