"""The sections of a run spec that say where and how it runs: engine, runtime, evaluation, checkpoints, tracking."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from neuromas.schema.bounds import MAX_EXAMPLES, MAX_PATH, MAX_STEPS, MAX_WAIT_S
from neuromas.schema.model import Retired, SpecModel

EngineType = Literal["vllm", "transformers"]
"""What an engine can be, once "auto" is decided."""
Threads = Annotated[int, Field(ge=1, le=1024)] | Literal["auto"]


class EngineSpec(SpecModel):
    """The inference engine inside each rollout worker."""

    retired: ClassVar[Retired] = {
        "max_adapters": ((None,), "an engine has a slot for each adapter of the run's largest graph"),
    }

    type: Literal["auto", "vllm", "transformers"] = "auto"
    """"auto" is what is faster: vLLM, but on CPU "transformers" for a base that vLLM cannot run there, and in runs of
    bases of less than ten million numbers. A setting of vLLM alone chooses it too. "transformers" needs no vLLM."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of engine and trainer base weights."""
    max_model_len: int = Field(default=128, ge=16, le=2**20)
    """Longest prompt + completion, in tokens."""
    max_num_seqs: int = Field(default=512, ge=1, le=2**16)
    """Calls that one engine batch holds; less where memory is short, the rest waits."""
    max_num_batched_tokens: int = Field(default=8192, ge=64, le=2**24)
    """Tokens that one step of vLLM computes; less where memory is short, more for long prompts on a GPU."""
    block_size: int = Field(default=32, multiple_of=16, ge=16, le=1024)
    """Tokens per cache block; prompts share whole blocks, so small ones share more. On CPU a multiple of 32, on GPU of
    16."""
    kv_cache_gib: float = Field(default=1.0, gt=0, le=2**14)
    """Cache size on CPU, GiB; more where many long prompts are answered at once."""
    gpu_memory_utilization: float = Field(default=0.6, gt=0, le=1)
    """Share of the GPU's memory the engine may take (GPU only; the trainer needs the rest)."""
    lora_kernel: Literal["grouped", "stock"] = "grouped"
    """CPU only: our grouped multi-LoRA kernel, or vLLM's own to compare with it."""
    threads: Threads = "auto"
    """CPU threads of each engine's process. "auto" is its share of the processors of its machine: rollouts and update
    take turns and use all of them, with training.overlap = 1 they split them; it is one for a base of less than ten
    million numbers. OMP_NUM_THREADS bounds "auto"."""

    @model_validator(mode="after")
    def _settings_of_the_engine(self) -> EngineSpec:
        if self.type == "transformers" and (idle := self.vllm_settings):
            raise ValueError(f"{', '.join(idle)} need type = 'vllm'")
        return self

    @property
    def vllm_settings(self) -> tuple[str, ...]:
        """Settings with a value of their own that vLLM alone reads."""
        only_vllm = ("max_num_batched_tokens", "block_size", "kv_cache_gib", "gpu_memory_utilization", "lora_kernel")
        return tuple(setting for setting in only_vllm if not self.is_default(setting))


class RuntimeSpec(SpecModel):
    """Processes of a run."""

    only_ray: ClassVar[tuple[str, ...]] = (
        "rollout_workers",
        "learner_workers",
        "shard_base",
        "gpus_per_rollout_worker",
        "gpus_per_learner",
        "address",
    )
    type: Literal["ray", "local"] = "ray"
    """Ray actors, or the same classes in one process."""
    rollout_workers: int = Field(default=1, ge=1, le=1024)
    """Engine processes that split the rollouts of a step."""
    learner_workers: int = Field(default=1, ge=1, le=1024)
    """Data-parallel learners (Ray Train)."""
    shard_base: bool = False
    """Each learner holds a share of the base, and gathers it layer by layer in every pass (FSDP), for bases that one
    learner cannot hold; needs two learners or more."""
    learner_threads: Threads = "auto"
    """CPU threads of each learner's process, as engine.threads. One process that does both (type = "local") has one
    number of threads: set either."""
    gpus_per_rollout_worker: float = Field(default=0, ge=0, le=64)
    """GPUs that Ray gives each; 0 = CPU only. Shares that add up to 1 let workers and learner stand on one GPU."""
    gpus_per_learner: float = Field(default=0, ge=0, le=64)
    """The same for each learner."""
    max_restarts: int = Field(default=3, ge=0, le=MAX_STEPS)
    """How often a dead rollout worker is started again in one run; more for long runs on machines that come and go."""
    rollout_timeout_s: float = Field(default=600, gt=0, le=MAX_WAIT_S)
    """Longest time a rollout worker may take over its share of a step before it counts as hung, seconds; more
    where a step takes minutes."""
    start_timeout_s: float = Field(default=300, gt=0, le=MAX_WAIT_S)
    """Longest time the workers and the learner may take to load, seconds; more for large bases on slow disks."""
    address: str | None = Field(default=None, max_length=MAX_PATH)
    """Address of a running Ray cluster; None = the cluster named by RAY_ADDRESS, else a local one."""

    @model_validator(mode="after")
    def _settings_of_the_runtime(self) -> RuntimeSpec:
        if self.type != "ray" and (idle := [name for name in self.only_ray if not self.is_default(name)]):
            raise ValueError(f"{', '.join(idle)} need type = 'ray'; \"local\" runs everything in one process")
        return self

    def in_one_process(self) -> RuntimeSpec:
        """Return the same without what one process does not read."""
        fields = type(self).model_fields
        return self.model_copy(update={"type": "local"} | {name: fields[name].default for name in self.only_ray})


class EvaluationSpec(SpecModel):
    """Held-out evaluation, greedy and sampled: of stages on validation questions, of the result on test questions."""

    examples: int = Field(default=512, ge=1, le=MAX_EXAMPLES)
    """Questions at most of each evaluation; a file's test split is divided, a quarter for validation."""
    every: int = Field(default=0, ge=0, le=MAX_STEPS)
    """Steps between evaluations inside a stage; 0 = only at its end."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of sampled answers; another one measures the same questions by other draws."""
    votes: int = Field(default=0, ge=0, le=1000)
    """Answers to each test question, sampled, of which the most frequent one is scored too; 0 = no vote."""


class CheckpointSpec(SpecModel):
    """What is kept on disk, beside the best checkpoint of each stage by the accuracy of its checks."""

    retired: ClassVar[Retired] = {
        "keep_best": ((1,), "the best checkpoint of each stage is kept"),
    }

    every: int = Field(default=20, ge=0, le=MAX_STEPS)
    """Steps between checkpoints; 0 = only at the end of a stage."""
    keep_last: int = Field(default=2, ge=1, le=MAX_STEPS)
    """Newest checkpoints kept of each stage; more of them to look back at how it learned."""


class TrackingSpec(SpecModel):
    """What is written beside the metrics file."""

    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field(default=(), max_length=3)
    """Trackers, through TRL; the package must be installed."""
    rollouts_every: int = Field(default=10, ge=1, le=MAX_STEPS)
    """Steps between samples written to rollouts.jsonl."""
    rollouts_per_sample: int = Field(default=2, ge=0, le=MAX_STEPS)
    """Rollouts of each sample, with all messages; 0 = none are kept, of held-out questions neither."""
