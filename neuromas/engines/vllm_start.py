"""Starting vLLM in this process: environment, arguments, and putting back what it changes globally."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuromas.base.data_home import can_write
from neuromas.base.resolve import BaseInfo, check_vllm_cpu
from neuromas.engines.noise import quiet_libraries
from neuromas.errors import BaseModelError, EngineError
from neuromas.loading import loading_libraries
from neuromas.spec.machine import EngineSpec

GROUPED_KERNEL = "neuromas.engines.vllm_grouped_lora.GroupedPunicaWrapper"
_GIB = 2**30
_ENVIRONMENT = {
    # The scheduler steps the engine itself: a second process would add a round trip to every step.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    # Threads are set by engine.threads, not by pinning: workers share the machine.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def prepare_environment() -> None:
    """Set what vLLM and torch read from the environment; settings of the user stay. Call before torch is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _have_a_cache()
    quiet_libraries()
    # Printed when a step fails: every prompt of the batch, hundreds of kilobytes.
    logging.getLogger("vllm.logging_utils.dump_input").setLevel(logging.CRITICAL)


def _have_a_cache() -> None:
    """Give vLLM a folder of this process alone where its own cannot be made, as by a user without a home."""
    if "VLLM_CACHE_ROOT" in os.environ:
        return
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vllm"
    if can_write(usual):
        return
    own = tempfile.mkdtemp(prefix="nm-vllm-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    os.environ["VLLM_CACHE_ROOT"] = own


def _stay_eager_on_cpu() -> None:
    """Keep vLLM from compiling its samplers on CPU: that costs seconds of every start and needs a C++ compiler."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def start_vllm(
    base: BaseInfo, spec: EngineSpec, max_adapters: int, max_rank: int, targets: Sequence[str] | None
) -> Any:
    """Return a running ``vllm.LLMEngine`` without a tokenizer, stepped by the caller.

    Args:
        base: the base model.
        spec: sizes; cache size and kernel on CPU, memory share on GPU.
        max_adapters: adapter slots; 0 starts vLLM without LoRA.
        max_rank: a rank vLLM can be started for, see ``adapters.export.engine_rank``.
        targets: names of the linear layers that will carry adapters; None wraps every layer that could.

    Raises:
        BaseModelError: vLLM on CPU cannot run this base, or vLLM on GPU not in this number format.
        EngineError: vLLM refused to start.
    """
    _stay_eager_on_cpu()
    from vllm import EngineArgs, LLMEngine
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    arguments = vllm_arguments(base, spec, max_adapters, max_rank, targets, on_cpu=on_cpu)
    grouped = on_cpu and spec.lora_kernel == "grouped"
    with _kernel(current_platform, grouped), _own_threads(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        except Exception as e:
            raise EngineError(f"vLLM did not start on base {base.folder.name}: {e}") from e
    _remove_meeting_place(engine)
    return engine


def _remove_meeting_place(engine: Any) -> None:
    """Remove the file over which vLLM's processes, here one, have met: nothing else would, and each start makes one."""
    place = engine.model_executor.driver_worker.worker.distributed_init_method
    if place.startswith("file://"):
        Path(place.removeprefix("file://")).unlink(missing_ok=True)


def vllm_arguments(
    base: BaseInfo, spec: EngineSpec, max_adapters: int, max_rank: int, targets: Sequence[str] | None, *, on_cpu: bool
) -> dict[str, Any]:
    """Return the arguments of ``vllm.EngineArgs``; see ``start_vllm``.

    Raises:
        BaseModelError: vLLM on CPU cannot run this base, or vLLM on GPU not in this number format.
    """
    arguments: dict[str, Any] = {
        "model": str(base.folder),
        "dtype": spec.dtype,
        "max_model_len": spec.max_model_len,
        "max_num_seqs": spec.max_num_seqs,
        "max_num_batched_tokens": spec.max_num_batched_tokens,
        "block_size": spec.block_size,
        "enable_prefix_caching": True,
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
    }
    if max_adapters:
        arguments |= {
            "enable_lora": True,
            "max_loras": max_adapters,
            "max_lora_rank": max_rank,
            "lora_target_modules": None if targets is None else list(targets),
        }
    return arguments | (_cpu_arguments(base, spec, max_adapters) if on_cpu else _gpu_arguments(spec, max_adapters))


def _cpu_arguments(base: BaseInfo, spec: EngineSpec, max_adapters: int) -> dict[str, Any]:
    from neuromas.engines.vllm_cpu_norms import norm_priority

    check_vllm_cpu(base, spec.block_size)
    arguments: dict[str, Any] = {
        "enforce_eager": True,
        "ir_op_priority": norm_priority(),
        "kv_cache_memory_bytes": int(spec.kv_cache_gib * _GIB),
        # A seeded call whose prompt is prefilled in two pieces kills vLLM 0.32 on CPU: the runner rewinds the call's
        # generator by an offset that CPU generators do not have (v1/worker/gpu_model_runner.py, _bookkeeping_sync).
        # Nothing is lost by it: with that mended, steps of 8,192 tokens took as long with chunks as without.
        "enable_chunked_prefill": False,
    }
    if max_adapters and spec.lora_kernel == "stock":
        # In a mixed batch the shipped operator serves calls of the bare base, slot -1, by the last slot: one more
        # slot stays empty.
        arguments["max_loras"] = max_adapters + 1
    return arguments


def _gpu_arguments(spec: EngineSpec, max_adapters: int) -> dict[str, Any]:
    if max_adapters and spec.dtype == "float32":
        raise BaseModelError(
            "engine.dtype is float32; vLLM on GPU serves adapters in bfloat16 or float16 "
            "(vllm/lora/ops/triton_ops/lora_shrink_op.py)"
        )
    return {"gpu_memory_utilization": spec.gpu_memory_utilization}


def import_vllm() -> None:
    """Import vLLM without the warnings of its own dependencies.

    Raises:
        EngineError: it is not installed.
    """
    prepare_environment()
    with loading_libraries(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import vllm.engine.arg_utils
            import vllm.v1.engine.llm_engine  # noqa: F401
        except ImportError as e:
            raise EngineError(
                f"vllm cannot be imported ({e}); install the engine extra or set engine.type = 'transformers'"
            ) from e


@contextmanager
def _kernel(platform: Any, grouped: bool) -> Iterator[None]:
    """Have engines started inside the block use our LoRA kernel, which vLLM asks its platform for by name."""
    if not grouped:
        yield
        return
    cls = type(platform)
    stock = cls.__dict__["get_punica_wrapper"]
    cls.get_punica_wrapper = classmethod(lambda _cls: GROUPED_KERNEL)
    try:
        yield
    finally:
        cls.get_punica_wrapper = stock


@contextmanager
def _own_threads() -> Iterator[None]:
    """Keep the CPU threads of this process; ``torch.set_num_threads``, which vLLM replaces, works again afterwards."""
    import torch

    set_num_threads, count = torch.set_num_threads, torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        set_num_threads(count)
