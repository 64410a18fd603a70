"""How likely the bare base finds what the Nodes of a graph say."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neuromas.rollout.record import Group, NodeCall

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOST: Final = 32
"""Messages of each Node that are looked at; every one is a pass of the base."""


def base_perplexity(groups: Sequence[Group], nodes: Sequence[str], base: Path, dtype: str) -> dict[str, float]:
    """Return the bare base's perplexity of each Node's messages; a Node that has written no token is left out.

    It is exp(-mean ln p) over all tokens of up to 32 messages, each given the prompt that the Node read: 1 where the
    base would say the same for certain.

    Args:
        groups: of one rollout each.
        nodes: ids of the Nodes.
        base: folder of the base.
        dtype: name of the number format that it is loaded in.
    """
    import torch

    from neuromas.adapters.frozen_base import DTYPES, load_base

    model = load_base(base, DTYPES[dtype]).to("cuda" if torch.cuda.is_available() else "cpu").eval()
    found = {}
    for node in nodes:
        calls = [call for group in groups for rollout in group.rollouts for call in rollout.calls if call.node == node]
        written = [call for call in calls if call.completion_token_ids][:_MOST]
        if written:
            tokens = sum(len(call.completion_token_ids) for call in written)
            found[node] = exp(sum(_nats(model, call) for call in written) / tokens)
    return found


def _nats(model: PreTrainedModel, call: NodeCall) -> float:
    """Return -ln of the probability of a message, its end included where it has one."""
    import torch

    said = call.completion_token_ids
    ids = torch.tensor([[*call.prompt_token_ids, *said]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, logits_to_keep=len(said) + 1).logits[0, :-1].float()
    return -float(logits.log_softmax(-1).gather(-1, ids[0, -len(said) :, None]).sum())
