"""vLLM's CPU multi-LoRA operator, grouped by adapter.

The shipped operator (vllm/lora/ops/torch_ops/lora_ops.py) copies A and B once per token. Here the tokens of a step are
put in the order of their adapters once, and every adapter costs one small matrix product pair per layer. While the
ranks of all adapters together are few, one product over all of them, masked, is cheaper still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

MAX_MASKED_RANKS = 32
"""Slots x rank up to which the masked product serves mixed batches.

Time of the masked over the grouped product on one core, slots x rank of 32 or less: 0.2 to 0.8 for 512 tokens of 64
features, 0.4 to 1.0 for 4,096 tokens of 64, 0.6 to 1.0 for 512 of 512 (2 slots of rank 16: 2.0); above it the masked
product falls behind, from 40 on for the larger batches and from 80 on for the smallest.
"""


@dataclass(frozen=True, slots=True)
class _Slice:
    """One output slice of a layer (q, k or v of a packed projection) that at least one adapter touches.

    Attributes:
        begin: first output column of the slice in the packed output.
        end: one past its last column.
        a: (slots, rank, in) stacked A.
        b: (slots, rank, out) stacked B, transposed.
    """

    begin: int
    end: int
    a: Tensor
    b: Tensor


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring tokens with one adapter: tokens ``begin`` to ``end`` of the ordered batch."""

    begin: int
    end: int
    slot: int


class GroupedPunicaWrapper(PunicaWrapperCPU):  # type: ignore[misc] # vLLM is not type-checked
    """Adds ``B A x`` of each token's adapter to the outputs of vLLM's linear layers.

    Adapters are expected under numbers that are never used twice: what is known about a layer's slices is forgotten
    when the numbers in the slots change. Embedding and logits keep vLLM's own operator.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slot_ids: list[int | None] = []
        self._slices: dict[int, list[_Slice]] = {}
        self._groups: list[_Group] = []
        self._order: Tensor | None = None
        self._slot_of_token = torch.empty(0, dtype=torch.long)
        self._masks: dict[tuple[int, torch.dtype], Tensor] = {}

    def update_metadata(
        self,
        mapping: Any,
        lora_index_to_id: list[int | None],
        max_loras: int,
        vocab_size: int,
        **kwargs: Any,
    ) -> None:
        """Take over which adapter serves which token of the coming step."""
        if lora_index_to_id != self._slot_ids:
            self._slot_ids = list(lora_index_to_id)
            self._slices.clear()
        tokens = self._slots(mapping.index_mapping)
        rows = self._slots(mapping.prompt_mapping)
        self._fill(tokens, rows, max_loras, vocab_size)
        self.is_prefill = mapping.is_prefill
        if mapping.is_prefill:
            self._update_prefill_metadata(self.token_lora_indices)
        self._plan(tokens)

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the adapters' part to ``y`` in place.

        Args:
            y: (tokens, sum of output_slices).
            x: (tokens, in).
            lora_a_stacked: per slice (slots, 1, rank, in).
            lora_b_stacked: per slice (slots, 1, out, rank).
            scale: factor of the adapters' part.
            output_slices: widths of the slices.
            buffer: not used, the operator needs none.
            kwargs: not used.
        """
        if not self._groups:
            return
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        num_ranks = lora_a_stacked[0].shape[0] * lora_a_stacked[0].shape[2]
        for part in self._touched(lora_a_stacked, lora_b_stacked, output_slices):
            if len(self._groups) > 1 and num_ranks <= MAX_MASKED_RANKS:
                self._add_masked(y[:, part.begin : part.end], x, part, scale)
            else:
                self._add_grouped(y[:, part.begin : part.end], x, part, scale)

    def _slots(self, lora_ids: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the slot of each entry, -1 where there is no adapter; the shipped code loops over all tokens."""
        ids = np.fromiter(lora_ids, dtype=np.int64, count=len(lora_ids))
        known = {lora_id: slot for slot, lora_id in enumerate(self._slot_ids) if lora_id is not None}
        distinct, place = np.unique(ids, return_inverse=True)
        slots = np.array([known[int(lora_id)] if lora_id > 0 else -1 for lora_id in distinct], dtype=np.int64)
        return slots[place]

    def _fill(self, tokens: Any, rows: Any, max_loras: int, vocab_size: int) -> None:
        """Write the index buffers that vLLM's own operators read; as ``convert_mapping`` defines them."""
        token_slots, row_slots = torch.from_numpy(tokens), torch.from_numpy(rows)
        num_tokens, num_rows = len(tokens), len(rows)
        self._token_lora_indices[:num_tokens] = token_slots
        self._sampler_indices[:num_rows] = row_slots
        padded = row_slots.where(row_slots >= 0, max_loras - 1)
        self._sampler_indices_padded[:num_rows] = torch.arange(num_rows) + padded * num_rows
        self._embeddings_indices[:num_tokens] = token_slots.clamp_min(0) * vocab_size
        self.indices_len[:] = [num_tokens, num_rows, num_rows, num_tokens]

    def _plan(self, tokens: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Order the tokens of the step by adapter and note where each adapter's tokens lie."""
        self._masks.clear()
        self._slot_of_token = torch.from_numpy(tokens)
        is_ordered = bool((tokens[1:] >= tokens[:-1]).all())
        order = None if is_ordered else np.argsort(tokens, kind="stable")
        self._order = None if order is None else torch.from_numpy(order)
        slots, begins, counts = np.unique(
            tokens if order is None else tokens[order], return_index=True, return_counts=True
        )
        self._groups = [
            _Group(int(begin), int(begin + count), int(slot))
            for slot, begin, count in zip(slots, begins, counts, strict=True)
            if slot >= 0
        ]

    def _touched(
        self, stacks_a: tuple[Tensor, ...], stacks_b: tuple[Tensor, ...], widths: tuple[int, ...]
    ) -> list[_Slice]:
        """Return the slices of a layer that any adapter changes; the others cost nothing."""
        key = stacks_a[0].data_ptr()
        if key not in self._slices:
            slices, begin = [], 0
            for a, b, width in zip(stacks_a, stacks_b, widths, strict=True):
                if bool(a.any()) and bool(b.any()):
                    slices.append(_Slice(begin, begin + width, a[:, 0], b[:, 0].transpose(1, 2)[..., :width]))
                begin += width
            self._slices[key] = slices
        return self._slices[key]

    def _add_grouped(self, y: Tensor, x: Tensor, part: _Slice, scale: float) -> None:
        if self._order is None:
            for group in self._groups:
                low = torch.mm(x[group.begin : group.end], part.a[group.slot].t())
                y[group.begin : group.end].addmm_(low.to(y.dtype), part.b[group.slot], alpha=scale)
            return
        ordered = x.index_select(0, self._order)
        delta = y.new_zeros(y.shape)
        for group in self._groups:
            low = torch.mm(ordered[group.begin : group.end], part.a[group.slot].t())
            torch.mm(low.to(y.dtype), part.b[group.slot], out=delta[group.begin : group.end])
        y.index_add_(0, self._order, delta, alpha=scale)

    def _add_masked(self, y: Tensor, x: Tensor, part: _Slice, scale: float) -> None:
        num_slots, rank, width = part.a.shape
        low = torch.mm(x, part.a.reshape(num_slots * rank, width).t()).mul_(self._mask(num_slots, rank, x.dtype))
        y.addmm_(low, part.b.reshape(num_slots * rank, -1), alpha=scale)

    def _mask(self, num_slots: int, rank: int, dtype: torch.dtype) -> Tensor:
        """Return (tokens, slots x rank) with ones at the ranks of each token's own adapter."""
        key = rank, dtype
        if key not in self._masks:
            slots = torch.arange(num_slots).repeat_interleave(rank)
            self._masks[key] = (self._slot_of_token[:, None] == slots).to(dtype)
        return self._masks[key]
