"""The engine on plain transformers: the oracle vLLM is tested against, and the fallback where vLLM does not run."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from neuromas.adapters.frozen_base import DTYPES, load_base
from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.base.attention import counts_places
from neuromas.base.resolve import check_length, read_base
from neuromas.base.tree_mask import depth_attention
from neuromas.engines.admission import NOT_NUMBERS, refusal
from neuromas.engines.lora_rows import LoraRows
from neuromas.engines.prefill import Ints, Share, find_shares, plan_passes
from neuromas.engines.row_cache import Reading, RowCache
from neuromas.engines.sampling import sample_rows
from neuromas.engines.shared_heads import shared_heads
from neuromas.engines.versions import VersionTable
from neuromas.errors import BaseModelError, EngineError
from neuromas.rollout.engine import EngineCall, EngineResult, Partial
from neuromas.rollout.record import FinishReason, Top
from neuromas.spec.machine import EngineSpec


@dataclass(slots=True)
class _Row:
    """A call under way: what it has sampled so far, how many tokens it may sample and how many were seen already.

    Attributes:
        room: tokens that it may sample.
        length: tokens whose keys and values are held.
        next_id: the token after them.
        num_cached: tokens of the prompt that were read with another call's.
    """

    call: EngineCall
    slot: int
    room: int
    generator: torch.Generator
    length: int
    next_id: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)
    num_seen: int = 0
    num_cached: int = 0

    def take_new(self) -> Partial:
        """Return what nobody has seen yet and count it as seen."""
        seen, self.num_seen = self.num_seen, len(self.token_ids)
        return Partial(self.call.id, tuple(self.token_ids[seen:]), tuple(self.logprobs[seen:]), tuple(self.tops[seen:]))

    def take(self, token_id: int, logprob: float, top: Top) -> None:
        """Add a sampled token, which the next forward pass reads."""
        self.token_ids.append(token_id)
        self.length, self.next_id = self.length + 1, token_id
        self.logprobs.append(logprob)
        if self.call.sampling.num_top:
            self.tops.append(top)

    def result(self, reason: FinishReason) -> EngineResult:
        """Return the call's result, which ends here."""
        return EngineResult(
            id=self.call.id,
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            finish_reason=reason,
            cached_tokens=self.num_cached,
            tops=tuple(self.tops),
        )


class TransformersEngine:
    """Continuous generation in one batch.

    A step reads the prompts that are queued, except for their last tokens, and then one token of every call under way:
    late calls never wait for early ones, and never make a forward pass of their own out of each of their tokens.
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
        model = load_base(base_folder, DTYPES[spec.dtype])
        self._config = model.config
        self._model: nn.Module = model.to(self._device).eval()
        self._stop_token_ids = frozenset(info.stop_token_ids)
        self._vocab_size = info.vocab_size
        self._max_model_len = spec.max_model_len
        self._max_rows = spec.max_num_seqs
        self._versions = VersionTable(max_adapters, max_rank)
        self._lora = LoraRows(self._model, max_adapters, max_rank)
        self._stream = torch.Generator(self._device).manual_seed(0)
        self._queue: deque[EngineCall] = deque()
        self._refused: list[EngineResult] = []
        self._rows: list[_Row] = []
        self._cache = RowCache()
        self._ids: set[str] = set()
        self._by_depth = not counts_places(self._config.get_text_config().to_dict()) and self._takes_masks()

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
        """Read what is queued, sample one token of every call under way and return the calls that finished."""
        results, self._refused = self._refused, []
        with torch.inference_mode():
            self._admit()
            results += self._advance()
        for result in results:
            self._ids.discard(result.id)
        return results

    def partials(self) -> list[Partial]:
        """Return the new tokens of the unfinished streamed calls; see ``Engine.partials``."""
        return [row.take_new() for row in self._rows if row.call.is_streamed and len(row.token_ids) > row.num_seen]

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
        for row in self._rows:
            if row.call.id in gone:
                self._versions.leave(row.call.adapter)
        with torch.inference_mode():  # as all that the cache holds was made in it
            self._remove([place for place, row in enumerate(self._rows) if row.call.id in gone])

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
        """Take up the queued calls that there is room for, and read all tokens but the last of their prompts."""
        calls = [self._queue.popleft() for _ in range(min(self._max_rows - len(self._rows), len(self._queue)))]
        if not calls:
            return
        first = len(self._rows)
        self._rows += map(self._row, calls)
        self._cache.reserve(len(self._rows), max(row.length + row.room for row in self._rows))
        prompts = [row.call.prompt_token_ids for row in self._rows]
        none = [Share(row, 0, 0) for row in range(first, len(prompts))]
        shares = find_shares(prompts, [row.slot for row in self._rows], first) if self._by_depth else none
        for turn in sorted({share.turn for share in shares}):
            self._begin({place: share for place, share in enumerate(shares, first) if share.turn == turn})

    def _begin(self, shares: Mapping[int, Share]) -> None:
        """Read all tokens but the last of rows' prompts, except for what they copy."""
        by_length: dict[int, list[int]] = {}
        for place, share in shares.items():
            self._rows[place].num_cached = share.length
            by_length.setdefault(share.length, []).append(place)
        for length in sorted(set(by_length) - {0}):
            self._cache.copy([shares[place].source for place in by_length[length]], by_length[length], length)
        places = list(shares)
        left = [self._rows[place].length - shares[place].length for place in places]
        for part in plan_passes(left, exactly=not self._by_depth):
            longest = left[part[0]]
            rows = [self._rows[places[number]] for number in part]
            token_ids = np.zeros((len(rows), longest), dtype=np.int64)
            for line, row, number in zip(token_ids, rows, part, strict=True):
                line[: left[number]] = row.call.prompt_token_ids[row.num_cached : row.length]
            starts = [row.num_cached for row in rows]
            self._forward(rows, [places[number] for number in part], token_ids, starts)

    def _row(self, call: EngineCall) -> _Row:
        slot = LoraRows.NONE if call.adapter is None else self._versions.slot(call.adapter)
        prompt = call.prompt_token_ids
        room = min(call.sampling.max_tokens, self._max_model_len - len(prompt))
        generator = self._stream
        if call.sampling.seed is not None:
            generator = torch.Generator(self._device).manual_seed(call.sampling.seed)
        return _Row(call, slot, room, generator, len(prompt) - 1, prompt[-1])

    def _advance(self) -> list[EngineResult]:
        """Read the next token of all calls, sample one more each and return those that ended with it."""
        if not self._rows:
            return []
        results, ended, broken = [], [], []
        for places in self._batches():
            rows = [self._rows[place] for place in places]
            following = np.array([[row.next_id] for row in rows])
            logits = self._forward(rows, places, following, [row.length for row in rows])
            sampled = sample_rows(logits, [row.call.sampling for row in rows], [row.generator for row in rows])
            for place, row, token_id, logprob, top in zip(places, rows, *sampled, strict=True):
                if isnan(logprob):
                    broken.append(place)
                    results.append(EngineResult(row.call.id, (), (), "error", NOT_NUMBERS))
                    continue
                row.take(token_id, logprob, top)
                if (reason := self._finish_reason(row)) is not None:
                    ended.append(place)
                    results.append(row.result(reason))
        self._cache.clear(broken)
        for place in (*ended, *broken):
            self._versions.leave(self._rows[place].call.adapter)
        self._remove(sorted((*ended, *broken)))
        return results

    def _batches(self) -> list[list[int]]:
        """Return the rows that one forward pass reads: all, or where the base counts places, those of one length."""
        if self._by_depth:
            return [list(range(len(self._rows)))]
        by_length: dict[int, list[int]] = {}
        for place, row in enumerate(self._rows):
            by_length.setdefault(row.length, []).append(place)
        return list(by_length.values())

    def _forward(self, rows: Sequence[_Row], places: Sequence[int], token_ids: Ints, starts: Sequence[int]) -> Tensor:
        """Read tokens of rows under their adapters; returns the logits behind the last column, (rows, vocabulary).

        Args:
            rows: to read tokens of.
            places: of the rows in the batch.
            token_ids: what each reads, shape (rows, tokens), filled up with zeros.
            starts: how many tokens of each row have been read.
        """
        width = token_ids.shape[1]
        reach = min(max(starts) + width, self._cache.size[1])
        kept = self._tensor(starts)[:, None] + torch.arange(width, device=self._device)
        kept = kept.clamp(max=reach - 1)  # what fills a row up goes nowhere that has been read
        index = None if list(places) == list(range(len(self._rows))) else self._tensor(places)
        self._cache.reading = Reading(index, kept, reach)
        attended = torch.arange(reach, device=self._device)[None]
        masked = depth_attention(self._config, kept, attended) if self._by_depth else nullcontext()
        with masked, shared_heads(), self._lora.routed(self._tensor([row.slot for row in rows])):
            output = self._model(
                input_ids=self._tensor(token_ids),
                attention_mask=torch.ones(len(rows), reach, dtype=torch.long, device=self._device),
                position_ids=kept,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _tensor(self, numbers: Sequence[int] | Ints) -> Tensor:
        return torch.as_tensor(numbers, device=self._device)

    def _takes_masks(self) -> bool:
        """Return whether the base follows the masks that are made for it, which it does not where it adds its own."""
        start = torch.zeros(1, 1, dtype=torch.long, device=self._device)
        self._cache.reserve(1, 1)
        self._cache.reading = Reading(None, start, 1)
        try:
            with torch.inference_mode(), depth_attention(self._config, start, start):
                self._model(input_ids=start, position_ids=start, past_key_values=self._cache, use_cache=True)
        except BaseModelError:
            return False
        finally:
            self._cache.free()
        return True

    def _finish_reason(self, row: _Row) -> FinishReason | None:
        last = row.token_ids[-1]
        if last in self._stop_token_ids or last in row.call.stop_token_ids:
            return "stop"
        return "length" if len(row.token_ids) >= row.room else None

    def _remove(self, places: Sequence[int]) -> None:
        """Drop rows, given in ascending order; the last ones take the places that become free before them."""
        if not places:
            return
        gone, kept = set(places), len(self._rows) - len(places)
        targets = [place for place in places if place < kept]
        sources = [place for place in range(kept, len(self._rows)) if place not in gone]
        self._cache.move(sources, targets)
        for source, target in zip(sources, targets, strict=True):
            self._rows[target] = self._rows[source]
        del self._rows[kept:]
        if not self._rows:
            self._cache.free()
