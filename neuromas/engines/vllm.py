"""The vLLM engine: in this process, stepped by the caller, many adapters in one continuous batch."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromas.adapters.export import engine_rank
from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.base.resolve import check_length, read_base
from neuromas.engines.admission import NOT_NUMBERS, refusal
from neuromas.engines.versions import VersionTable
from neuromas.engines.vllm_start import import_vllm, start_vllm
from neuromas.errors import AdapterError, EngineError
from neuromas.rollout.engine import EngineCall, EngineResult, Partial, Sampling
from neuromas.rollout.record import FinishReason, Top
from neuromas.spec.machine import EngineSpec

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.outputs import CompletionOutput, RequestOutput


class VllmEngine:
    """``vllm.LLMEngine`` behind the Engine protocol; one code path for the CPU and the CUDA build."""

    def __init__(
        self,
        base_folder: Path,
        spec: EngineSpec,
        max_adapters: int,
        max_rank: int,
        targets: Sequence[str] | None = None,
    ) -> None:
        """Import vLLM (about 10 s) and start it (about 3 s on a small base).

        Whatever the process has loaded by then is spared by the garbage collector until the engine closes.

        Args:
            base_folder: folder of the base model.
            spec: sizes of the engine.
            max_adapters: adapter versions held at a time; 0 serves the bare base only.
            max_rank: largest rank that will be published.
            targets: names of the linear layers that will carry adapters; None allows every layer and costs a little
                time in those that carry none.

        Raises:
            BaseModelError: vLLM cannot run this base, or not at this length.
            EngineError: vLLM is missing or did not start.
        """
        import_vllm()
        from neuromas.engines.vllm_adapters import look_up_adapters

        base = read_base(base_folder)
        check_length(base, spec.max_model_len)

        self._engine = start_vllm(base, spec, max_adapters, engine_rank(max_rank), targets)
        self._stop_token_ids = list(base.stop_token_ids)
        self._stop_lists: dict[frozenset[int], list[int]] = {}
        self._vocab_size = base.vocab_size
        self._max_model_len = spec.max_model_len
        self._versions = VersionTable(max_adapters, max_rank)
        self._requests: dict[AdapterRef, LoRARequest] = {}
        self._num_published = 0
        self._calls: dict[str, EngineCall] = {}
        self._refused: list[EngineResult] = []
        self._grown: dict[str, CompletionOutput] = {}
        self._num_seen: Counter[str] = Counter()
        if max_adapters:
            self._engine.collective_rpc(look_up_adapters)
        self._warm_up()
        _spare_the_collector()

    @property
    def max_model_len(self) -> int:
        """Longest prompt + completion, in tokens."""
        return self._max_model_len

    def submit(self, calls: Sequence[EngineCall]) -> None:
        """Queue calls; see ``Engine.submit``."""
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input

        for call in calls:
            if call.id in self._calls:
                raise EngineError(f"call id {call.id!r} is already under way")
            refused = refusal(call, self._versions, self._max_model_len, self._vocab_size)
            self._calls[call.id] = call
            if refused is not None:
                self._refused.append(refused)
                continue
            try:
                self._running().add_request(
                    call.id,
                    tokens_input(list(call.prompt_token_ids)),
                    self._params(call),
                    lora_request=None if call.adapter is None else self._requests[call.adapter],
                )
            except (ValueError, VLLMClientError) as e:  # about this call, not about the engine
                self._refused.append(EngineResult(call.id, (), (), "error", f"vLLM refused the call: {e}"))
            else:
                self._versions.enter(call.adapter)

    def step(self) -> list[EngineResult]:
        """Advance the batch by one step and return the calls that finished in it.

        Raises:
            EngineError: vLLM failed; the engine is of no use any more.
        """
        results, self._refused = self._refused, []
        engine = self._running()
        refused = {result.id for result in results}
        if len(self._calls) > len(refused):
            try:
                outputs = engine.step()
            except Exception as e:
                raise EngineError(f"vLLM stopped: {e}") from e
            results += [
                _result(output, self._calls[output.request_id].sampling.num_top)
                for output in outputs
                if output.finished
            ]
            # Only streamed calls give outputs before they have finished.
            self._grown.update((output.request_id, output.outputs[0]) for output in outputs if not output.finished)
        for result in results:
            call = self._calls.pop(result.id)
            if result.id not in refused:
                self._versions.leave(call.adapter)
            if call.is_streamed:
                self._forget_stream(result.id)
        return results

    def partials(self) -> list[Partial]:
        """Return the new tokens of the unfinished streamed calls; see ``Engine.partials``."""
        partials = []
        for call_id, completion in self._grown.items():
            seen = self._num_seen[call_id]
            # vLLM's own growing lists: what is new is copied, the rest is not.
            token_ids = tuple(completion.token_ids[seen:])
            logprobs, tops = _scores(completion, self._calls[call_id].sampling.num_top, seen)
            partials.append(Partial(call_id, token_ids, logprobs, tops))
            self._num_seen[call_id] += len(token_ids)
        self._grown.clear()
        return partials

    def has_unfinished(self) -> bool:
        """Whether any submitted call has not been returned yet."""
        return bool(self._calls)

    def abort(self, ids: Sequence[str]) -> None:
        """Forget calls; unknown ids are ignored."""
        gone = [call_id for call_id in dict.fromkeys(ids) if call_id in self._calls]
        refused = {result.id for result in self._refused}
        self._refused = [result for result in self._refused if result.id not in gone]
        running = [call_id for call_id in gone if call_id not in refused]
        if running:
            self._running().abort_request(running)
        for call_id in running:
            self._versions.leave(self._calls[call_id].adapter)
        for call_id in gone:
            del self._calls[call_id]
            self._forget_stream(call_id)

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        """Make new adapter versions servable from memory; see ``Engine.publish``."""
        from vllm.lora.request import LoRARequest

        from neuromas.engines.vllm_adapters import check_adapter, put_adapter

        engine = self._running()
        self._versions.check(adapters, retire)
        for ref, lora in adapters.items():
            for fault in engine.collective_rpc(check_adapter, args=(str(ref), lora)):
                if fault is not None:
                    raise AdapterError(fault)
        for ref in self._versions.retirable(retire):
            engine.remove_lora(self._requests.pop(ref).lora_int_id)
        self._versions.exchange(list(adapters), retire)
        for ref, lora in adapters.items():
            self._num_published += 1
            # The prefix cache is keyed by this name, so a version's cached prompts can never serve another.
            self._requests[ref] = LoRARequest(str(ref), self._num_published, lora_path=f"memory:{ref}")
            engine.collective_rpc(put_adapter, args=(self._num_published, lora))

    def close(self) -> None:
        """Forget all calls and stop vLLM."""
        if self._engine is None:
            return
        self.abort(list(self._calls))
        engine, self._engine = self._engine, None
        engine.engine_core.shutdown()
        gc.unfreeze()

    def _warm_up(self) -> None:
        """Run one call: the first one pays for lazy set-up, which would else be counted to the first batch."""
        self.submit(
            [EngineCall("warm-up", (self._stop_token_ids[0],), Sampling(max_tokens=2, temperature=1.0, seed=0))]
        )
        while self.has_unfinished():
            self.step()

    def _forget_stream(self, call_id: str) -> None:
        self._grown.pop(call_id, None)
        self._num_seen.pop(call_id, None)

    def _running(self) -> Any:
        if self._engine is None:
            raise EngineError("the engine is closed")
        return self._engine

    def _params(self, call: EngineCall) -> SamplingParams:
        # Not from vllm itself, which looks the name up anew for every call.
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        sampling = call.sampling
        return SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop_token_ids=self._stops(call.stop_token_ids),
            logprobs=sampling.num_top,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.CUMULATIVE if call.is_streamed else RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )

    def _stops(self, further: frozenset[int]) -> list[int]:
        """Return the tokens that end a call; those of a run are put together once."""
        if further not in self._stop_lists:
            self._stop_lists[further] = [*self._stop_token_ids, *sorted(further.difference(self._stop_token_ids))]
        return self._stop_lists[further]


def _spare_the_collector() -> None:
    """Take what is loaded out of Python's garbage collection until the engine closes.

    A full collection walks the objects of torch, vLLM and the model, 0.3 s in the middle of a batch or of an answer.
    """
    gc.collect()
    gc.freeze()


def _scores(completion: CompletionOutput, num_top: int, begin: int = 0) -> tuple[tuple[float, ...], tuple[Top, ...]]:
    """Return the log probabilities of the tokens from ``begin`` on, and those of the most probable ones beside them.

    vLLM's flat list has, for each place, the sampled token and then the ``num_top`` most probable ones.
    """
    flat, width = completion.logprobs, 1 + num_top
    if not num_top:
        return tuple(flat.logprobs[begin:]), ()
    tops = []
    for first in range(1 + begin * width, len(flat.logprobs), width):
        entries = zip(flat.token_ids[first : first + num_top], flat.logprobs[first : first + num_top], strict=True)
        tops.append(tuple((token_id, logprob) for token_id, logprob in entries if logprob != -inf))
    return tuple(flat.logprobs[begin * width :: width]), tuple(tops)


def _result(output: RequestOutput, num_top: int) -> EngineResult:
    (completion,) = output.outputs
    logprobs, tops = _scores(completion, num_top)
    if not isfinite(sum(logprobs)):
        return EngineResult(output.request_id, (), (), "error", NOT_NUMBERS)
    reason: FinishReason = "stop" if completion.finish_reason == "stop" else "length"
    return EngineResult(
        id=output.request_id,
        token_ids=tuple(completion.token_ids),
        logprobs=logprobs,
        finish_reason=reason,
        cached_tokens=output.num_cached_tokens or 0,
        tops=tops,
    )
