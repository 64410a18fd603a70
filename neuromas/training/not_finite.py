"""Numbers that are not finite, explained: where the first of them is, what makes them, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neuromas.adapters.bank import AdapterBank
from neuromas.errors import TrainingError
from neuromas.rollout.record import NodeCall
from neuromas.training.sharded_base import held, is_sharded

_SMALLER_STEPS = "lower training.learning_rate"
_WIDER_FORMAT = "set engine.dtype = 'float32', or 'bfloat16' in place of 'float16'"


def check_logprobs(calls: Sequence[NodeCall | None], step: int) -> None:
    """Refuse what an engine cannot have sampled: a token whose log-probability is no finite number.

    Raises:
        TrainingError: names the node and the first such call.
    """
    for call in calls:
        if call is None or _is_finite(sum(call.logprobs)):
            continue
        place = next(place for place, logprob in enumerate(call.logprobs) if not _is_finite(logprob))
        who = "the bare base" if call.adapter is None else f"adapter {call.adapter}"
        raise TrainingError(
            f"step {step}: the engine's log-probability of token {place + 1} of {len(call.logprobs)} is "
            f"{call.logprobs[place]}, first in a call of node {call.node!r} by {who}; the trainer has not computed "
            f"anything yet. The engine's numbers overflow ({_WIDER_FORMAT}), or it has a fault"
        )


def _is_finite(number: float) -> bool:
    return number - number == 0


def loss_error(
    step: int,
    nodes: Sequence[str],
    logprobs: Tensor,
    old_logprobs: Tensor,
    model: nn.Module,
    bank: AdapterBank,
    forward: Callable[[], object],
) -> TrainingError:
    """Return the error of a loss that is not finite.

    Args:
        step: of the stage.
        nodes: the Node of each row.
        logprobs: of the trainer, shape (rows, tokens), 0 for padding.
        old_logprobs: under the old policy of the ratio, of the same shape.
        model: the model.
        bank: its adapters.
        forward: computes the rows again, without gradient.
    """
    broken = sorted({nodes[row] for row in (~torch.isfinite(logprobs)).any(1).nonzero()[:, 0].tolist()})
    if not broken:
        apart = (logprobs - old_logprobs).abs().amax(1)
        row = int(apart.argmax())
        cause = (
            f"all log-probabilities are finite, so the ratio to the policy that sampled overflows: at node "
            f"{nodes[row]!r} they differ by up to {apart[row].item():.0f} nats; {_SMALLER_STEPS}"
        )
    else:
        found = f"log-probabilities of {'node' if len(broken) == 1 else 'nodes'} {', '.join(map(repr, broken))} are not"
        cause = f"{found} finite; {cause_of(model, bank, forward)}"
    return TrainingError(f"step {step}: the loss is not finite: {cause}")


def cause_of(model: nn.Module, bank: AdapterBank, forward: Callable[[], object]) -> str:
    """Return why the trainer's log-probabilities are not finite, and what to change; ``forward`` computes them.

    Where the base is in shares this process looks at its own, and cannot compute anything without the others.
    """
    if (weight := broken_weight(bank)) is not None:
        return f"{weight} is not finite, so an earlier step was too large: {_SMALLER_STEPS}"
    trained = {id(owned.tensor) for owned in bank.trained()}
    for path, tensor in model.named_parameters():
        if id(tensor) not in trained and not bool(torch.isfinite(held(tensor)).all()):
            return f"the base's own {_plain(path)} is not finite: its files are damaged, take another base"
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    if is_sharded(model):
        return f"all weights of this learner are finite: {dtype} overflows in a layer; {_WIDER_FORMAT}"
    with _watched(model) as seen, torch.no_grad():
        forward()
    place = f"the output of {_plain(seen[0])}" if seen else "the log-softmax of the logits"
    return f"all weights are finite, {place} is not: {dtype} overflows there; {_WIDER_FORMAT}"


def broken_weight(bank: AdapterBank) -> str | None:
    """Return the first trained tensor that is not finite, by adapter and path in the model; None where all are."""
    return _broken(bank, lambda tensor: tensor.detach())


def gradient_error(step: int, bank: AdapterBank) -> TrainingError:
    """Return the error of gradients whose norm is not finite, before anything has scaled them."""
    place = _broken(bank, lambda tensor: tensor.grad)
    what = f"the gradient of {place}" if place is not None else "the norm of the gradients"
    return TrainingError(
        f"step {step}: {what} is not finite, though the loss is: the backward pass overflows; {_SMALLER_STEPS}, in "
        f"half precision {_WIDER_FORMAT}"
    )


def _broken(bank: AdapterBank, part: Callable[[Tensor], Tensor | None]) -> str | None:
    for owned in bank.trained():
        tensor = part(owned.tensor)
        if tensor is None or bool(torch.isfinite(tensor).all()):
            continue
        rows = (~torch.isfinite(owned.rows(tensor))).flatten(1).any(1).nonzero()[:, 0].tolist()
        whose = "what all adapters share" if owned.dim is None else f"adapter {bank.names[rows[0]]!r}"
        return f"{whose}, tensor {owned.key}"
    return None


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    """Note the paths of modules whose output is not finite, the innermost and earliest first."""
    seen: list[str] = []

    def look(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            if not all(bool(torch.isfinite(part).all()) for part in outputs if isinstance(part, Tensor)):
                seen.append(path)

        return hook

    hooks = [module.register_forward_hook(look(path)) for path, module in model.named_modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _plain(path: str) -> str:
    """Return a module's path in the base, without what wraps it."""
    return path.removeprefix("base_model.model.").replace(".base_layer", "") or "the model"
