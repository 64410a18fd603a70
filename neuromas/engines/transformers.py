"""The engine on plain transformers: the oracle vLLM is tested against, and the fallback where vLLM does not run."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.utils import logging as transformers_logging

from neuromas.adapters.frozen_base import DTYPES, load_base
from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.base.resolve import check_length, read_base
from neuromas.engines.admission import NOT_NUMBERS, refusal
from neuromas.engines.lora_rows import LoraRows
from neuromas.engines.sampling import sample_rows
from neuromas.engines.versions import VersionTable
from neuromas.errors import EngineError
from neuromas.rollout.engine import EngineCall, EngineResult, Partial
from neuromas.rollout.record import FinishReason, Top
from neuromas.spec.machine import EngineSpec


@dataclass(slots=True)
class _Row:
    """A call under way: what it has sampled so far, how many tokens it may sample and how many were seen already."""

    call: EngineCall
    slot: int
    room: int
    generator: torch.Generator
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)
    num_seen: int = 0

    def take_new(self) -> Partial:
        """Return what nobody has seen yet and count it as seen."""
        seen, self.num_seen = self.num_seen, len(self.token_ids)
        return Partial(self.call.id, tuple(self.token_ids[seen:]), tuple(self.logprobs[seen:]), tuple(self.tops[seen:]))

    def take(self, token_id: int, logprob: float, top: Top) -> None:
        """Add a sampled token."""
        self.token_ids.append(token_id)
        self.logprobs.append(logprob)
        if self.call.sampling.num_top:
            self.tops.append(top)

    def result(self, reason: FinishReason) -> EngineResult:
        """Return the call's result, which ends here."""
        return EngineResult(self.call.id, tuple(self.token_ids), tuple(self.logprobs), reason, tops=tuple(self.tops))


@dataclass(slots=True)
class _Cohort:
    """Rows that were prefilled together and share one key-value cache.

    Attributes:
        rows: the unfinished calls, in the order of the cache's batch axis.
        mask: (rows, positions so far), 0 on left padding.
        slots: (rows,) adapter slot of each row.
        next_ids: (rows, new positions) tokens the next forward reads.
        cache: keys and values of all positions read.
    """

    rows: list[_Row]
    mask: Tensor
    slots: Tensor
    next_ids: Tensor
    cache: DynamicCache


class TransformersEngine:
    """Continuous generation in cohorts.

    What is queued at a step is prefilled at once, and every cohort then advances by one token per step, so late calls
    never wait for early ones.
    """

    def __init__(self, base_folder: Path, spec: EngineSpec, max_adapters: int, max_rank: int) -> None:
        """Load the base.

        Args:
            base_folder: folder of the base model.
            spec: sizes and number format; cache and kernel settings concern vLLM only.
            max_adapters: adapter versions held at a time.
            max_rank: largest rank that may be published.

        Raises:
            BaseModelError: the folder is not a causal language model.
        """
        info = read_base(base_folder)
        check_length(info, spec.max_model_len)
        transformers_logging.disable_progress_bar()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model: nn.Module = load_base(base_folder, DTYPES[spec.dtype])
        self._model = model.to(self._device).eval()
        self._stop_token_ids = frozenset(info.stop_token_ids)
        self._vocab_size = info.vocab_size
        self._max_model_len = spec.max_model_len
        self._max_rows = spec.max_num_seqs
        self._versions = VersionTable(max_adapters, max_rank)
        self._lora = LoraRows(self._model, max_adapters, max_rank)
        self._stream = torch.Generator(self._device).manual_seed(0)
        self._queue: deque[EngineCall] = deque()
        self._refused: list[EngineResult] = []
        self._cohorts: list[_Cohort] = []
        self._ids: set[str] = set()

    @property
    def max_model_len(self) -> int:
        """Longest prompt + completion, in tokens."""
        return self._max_model_len

    def submit(self, calls: Sequence[EngineCall]) -> None:
        """Queue calls; see ``Engine.submit``."""
        for call in calls:
            if call.id in self._ids:
                raise EngineError(f"call id {call.id!r} is already under way")
            self._ids.add(call.id)
            refused = refusal(call, self._versions, self._max_model_len, self._vocab_size)
            if refused is None:
                self._versions.enter(call.adapter)
                self._queue.append(call)
            else:
                self._refused.append(refused)

    def step(self) -> list[EngineResult]:
        """Prefill what is queued, advance every cohort by one token and return the calls that finished."""
        results, self._refused = self._refused, []
        self._admit()
        with torch.inference_mode():
            for cohort in self._cohorts:
                results += self._advance(cohort)
        self._cohorts = [cohort for cohort in self._cohorts if cohort.rows]
        for result in results:
            self._ids.discard(result.id)
        return results

    def partials(self) -> list[Partial]:
        """Return the new tokens of the unfinished streamed calls; see ``Engine.partials``."""
        rows = [row for cohort in self._cohorts for row in cohort.rows if row.call.is_streamed]
        return [row.take_new() for row in rows if len(row.token_ids) > row.num_seen]

    def has_unfinished(self) -> bool:
        """Whether any submitted call has not been returned yet."""
        return bool(self._ids)

    def abort(self, ids: Sequence[str]) -> None:
        """Forget calls; unknown ids are ignored."""
        gone = self._ids.intersection(ids)
        if not gone:
            return
        self._ids -= gone
        self._refused = [result for result in self._refused if result.id not in gone]
        for call in self._queue:
            if call.id in gone:
                self._versions.leave(call.adapter)
        self._queue = deque(call for call in self._queue if call.id not in gone)
        for cohort in self._cohorts:
            keep = [place for place, row in enumerate(cohort.rows) if row.call.id not in gone]
            for row in cohort.rows:
                if row.call.id in gone:
                    self._versions.leave(row.call.adapter)
            self._keep(cohort, keep)
        self._cohorts = [cohort for cohort in self._cohorts if cohort.rows]

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        """Make new adapter versions servable; see ``Engine.publish``."""
        self._versions.check(adapters, retire)
        for ref, lora in adapters.items():
            self._lora.check(ref, lora)
        self._versions.exchange(list(adapters), retire)
        for ref, lora in adapters.items():
            self._lora.load(self._versions.slot(ref), lora)

    def close(self) -> None:
        """Forget all calls and adapters."""
        self.abort(list(self._ids))
        self._lora.remove()

    def _admit(self) -> None:
        """Make one cohort of the queued calls that there is room for."""
        room = self._max_rows - sum(len(cohort.rows) for cohort in self._cohorts)
        calls = [self._queue.popleft() for _ in range(min(room, len(self._queue)))]
        if not calls:
            return
        longest = max(len(call.prompt_token_ids) for call in calls)
        token_ids = torch.zeros(len(calls), longest, dtype=torch.long)
        mask = torch.zeros(len(calls), longest, dtype=torch.long)
        for place, call in enumerate(calls):
            length = len(call.prompt_token_ids)
            token_ids[place, longest - length :] = torch.tensor(call.prompt_token_ids)
            mask[place, longest - length :] = 1
        rows = [self._row(call) for call in calls]
        slots = torch.tensor([row.slot for row in rows])
        cache = DynamicCache(config=self._model.config)
        self._cohorts.append(
            _Cohort(rows, mask.to(self._device), slots.to(self._device), token_ids.to(self._device), cache)
        )

    def _row(self, call: EngineCall) -> _Row:
        slot = LoraRows.NONE if call.adapter is None else self._versions.slot(call.adapter)
        room = min(call.sampling.max_tokens, self._max_model_len - len(call.prompt_token_ids))
        generator = self._stream
        if call.sampling.seed is not None:
            generator = torch.Generator(self._device).manual_seed(call.sampling.seed)
        return _Row(call, slot, room, generator)

    def _advance(self, cohort: _Cohort) -> list[EngineResult]:
        """Read the next tokens of all rows, sample one more each and return the rows that ended with it."""
        positions = (cohort.mask.cumsum(-1) - 1).clamp_min(0)[:, -cohort.next_ids.shape[1] :]
        with self._lora.routed(cohort.slots):
            output = self._model(
                input_ids=cohort.next_ids,
                attention_mask=cohort.mask,
                position_ids=positions,
                past_key_values=cohort.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: Tensor = output.logits[:, -1].float()
        samplings = [row.call.sampling for row in cohort.rows]
        sampled, logprobs, tops = sample_rows(logits, samplings, [row.generator for row in cohort.rows])
        results, keep = [], []
        drawn = zip(cohort.rows, sampled, logprobs, tops, strict=True)
        for place, (row, token_id, logprob, top) in enumerate(drawn):
            if isnan(logprob):
                self._versions.leave(row.call.adapter)
                results.append(EngineResult(row.call.id, (), (), "error", NOT_NUMBERS))
                continue
            row.take(token_id, logprob, top)
            reason = self._finish_reason(row)
            if reason is None:
                keep.append(place)
            else:
                self._versions.leave(row.call.adapter)
                results.append(row.result(reason))
        cohort.next_ids = torch.tensor(sampled, device=self._device)[:, None]
        cohort.mask = nn.functional.pad(cohort.mask, (0, 1), value=1)
        self._keep(cohort, keep)
        return results

    def _finish_reason(self, row: _Row) -> FinishReason | None:
        last = row.token_ids[-1]
        if last in self._stop_token_ids or last in row.call.stop_token_ids:
            return "stop"
        return "length" if len(row.token_ids) >= row.room else None

    def _keep(self, cohort: _Cohort, places: Sequence[int]) -> None:
        """Drop the rows of a cohort that are not at ``places``."""
        if len(places) == len(cohort.rows):
            return
        cohort.rows = [cohort.rows[place] for place in places]
        if not places:
            return
        index = torch.tensor(places, device=self._device)
        cohort.mask = cohort.mask[index]
        cohort.slots = cohort.slots[index]
        cohort.next_ids = cohort.next_ids[index]
        if cohort.cache.get_seq_length():
            cohort.cache.batch_select_indices(index)
