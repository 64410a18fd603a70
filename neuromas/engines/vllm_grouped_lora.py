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

MAX_MASKED_RANKS = 40
"""Ranks of a layer, over all slots, up to which the masked product serves mixed batches.

Time of the masked over the grouped product for packed projections with two touched slices, on one core, for batches of
512 x 64, 4,096 x 64 and 512 x 512 numbers: 0.3 to 1.0 at 10 and 32 ranks, 0.9 to 1.1 at 40, 1.2 to 1.7 at 80, above 1.5
from 128 on.
"""


@dataclass(frozen=True, slots=True)
class _Layer:
    """The adapters of one layer, its k touched output slices (q and v of a packed projection) taken as one.

    Attributes:
        begin: first output column of the first slice that an adapter touches.
        end: one past the last column of the last such slice.
        a: (slots, k x rank, in), the slices' A one below the other.
        b: (slots, k x rank, end - begin), the slices' transposed B as blocks, zero elsewhere.
    """

    begin: int
    end: int
    a: Tensor
    b: Tensor

    @property
    def num_ranks(self) -> int:
        """Rows of all adapters' A together."""
        return self.a.shape[0] * self.a.shape[1]


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
        self._layers: dict[int, _Layer | None] = {}
        self._groups: list[_Group] = []
        self._order: Tensor | None = None
        self._place: Tensor | None = None
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
            self._layers.clear()
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
        layer = self._layer(lora_a_stacked, lora_b_stacked, output_slices)
        if layer is None:
            return
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])[:, layer.begin : layer.end]
        if len(self._groups) > 1 and layer.num_ranks <= MAX_MASKED_RANKS:
            self._add_masked(y, x, layer, scale)
        else:
            self._add_grouped(y, x, layer, scale)

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
        self._place = None if order is None else torch.from_numpy(np.argsort(order))
        slots, begins, counts = np.unique(
            tokens if order is None else tokens[order], return_index=True, return_counts=True
        )
        self._groups = [
            _Group(int(begin), int(begin + count), int(slot))
            for slot, begin, count in zip(slots, begins, counts, strict=True)
            if slot >= 0
        ]

    def _layer(
        self, stacks_a: tuple[Tensor, ...], stacks_b: tuple[Tensor, ...], widths: tuple[int, ...]
    ) -> _Layer | None:
        """Return the adapters of a layer, None when none of them changes it."""
        key = stacks_a[0].data_ptr()
        if key not in self._layers:
            self._layers[key] = _gather_layer(stacks_a, stacks_b, widths)
        return self._layers[key]

    def _add_grouped(self, y: Tensor, x: Tensor, layer: _Layer, scale: float) -> None:
        if self._order is None or self._place is None:
            for group in self._groups:
                low = torch.mm(x[group.begin : group.end], layer.a[group.slot].t())
                y[group.begin : group.end].addmm_(low, layer.b[group.slot], alpha=scale)
            return
        ordered = x.index_select(0, self._order)
        delta = y.new_empty(y.shape)
        delta[: self._groups[0].begin].zero_()  # tokens of the bare base, slot -1, come first
        for group in self._groups:
            low = torch.mm(ordered[group.begin : group.end], layer.a[group.slot].t())
            torch.mm(low, layer.b[group.slot], out=delta[group.begin : group.end])
        y.add_(delta.index_select(0, self._place), alpha=scale)

    def _add_masked(self, y: Tensor, x: Tensor, layer: _Layer, scale: float) -> None:
        num_slots, rank, _ = layer.a.shape
        low = torch.mm(x, layer.a.flatten(0, 1).t()).mul_(self._mask(num_slots, rank, x.dtype))
        y.addmm_(low, layer.b.flatten(0, 1), alpha=scale)

    def _mask(self, num_slots: int, rank: int, dtype: torch.dtype) -> Tensor:
        """Return (tokens, slots x rank) with ones at the ranks of each token's own adapter."""
        key = rank, dtype
        if key not in self._masks:
            slots = torch.arange(num_slots).repeat_interleave(rank)
            self._masks[key] = (self._slot_of_token[:, None] == slots).to(dtype)
        return self._masks[key]


def _gather_layer(stacks_a: tuple[Tensor, ...], stacks_b: tuple[Tensor, ...], widths: tuple[int, ...]) -> _Layer | None:
    begins = [sum(widths[:place]) for place in range(len(widths))]
    touched = [
        (begin, width, a[:, 0], b[:, 0].transpose(1, 2)[..., :width])
        for begin, width, a, b in zip(begins, widths, stacks_a, stacks_b, strict=True)
        if bool(a.any()) and bool(b.any())
    ]
    if not touched:
        return None
    first, last = touched[0][0], touched[-1][0] + touched[-1][1]
    num_slots, rank, _ = touched[0][2].shape
    blocks = touched[0][3].new_zeros(num_slots, rank * len(touched), last - first)
    for place, (begin, width, _, b) in enumerate(touched):
        blocks[:, place * rank : (place + 1) * rank, begin - first : begin - first + width] = b
    return _Layer(first, last, torch.cat([a for _, _, a, _ in touched], dim=1).contiguous(), blocks)
