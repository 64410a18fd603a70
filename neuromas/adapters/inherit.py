"""Starts of the adapters of a grown graph, from trained states and new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neuromas.adapters.families.contract import SHARED
from neuromas.adapters.initial import stream
from neuromas.adapters.source import AdapterSource, Roles, TrainedAdapter
from neuromas.errors import AdapterError

State = Mapping[str, Tensor]
"""Tensors by ``<adapter>/<key>``, as ``AdapterBank.state`` returns them; may hold several adapters."""


def inherit(
    modules: Sequence[State],
    sources: Mapping[str, AdapterSource],
    fresh: State,
    roles: Mapping[str, Roles],
    seed: int,
) -> dict[str, Tensor]:
    """Return the state of every adapter named in ``sources``, ready for ``AdapterBank.load_all``.

    - keep: the trained tensors, bit for bit, under the new name.
    - fresh: the start that a new model gives the name. The base's behaviour.
    - eva: the same; the learner then sets A from rollouts of the grown graph.
    - zero: the origin with all tensors at zero that change the base's behaviour. Of a LoRA A stays and B = 0: the
      first steps move B in the input subspace that the origin has learned. Of one vector nothing stays.
    - copy: the origin plus noise * std(tensor) * N(0, 1) per tensor, drawn from (seed, name, tensor). The origin's
      behaviour while noise is 0; a tensor that is all one value (an untrained B) gets no noise, nor does a fixed one,
      nor a number that is exactly zero (a rank that a layer did not get).
    - interpolate: mean of the origins, tensor by tensor. The mean of factors is not the mean of the updates B @ A:
      origins that share a start (copies, vectors of one projection) stay close to it, others give a new point between
      them. Fixed tensors have no mean: origins must agree in them.

    Tensors that adapters share are those of the modules, and fresh where none has that kind of adapters.

    Args:
        modules: trained states; an origin's ``module`` is the index here.
        sources: for each adapter of the grown graph, where its weights come from.
        fresh: ``AdapterBank.state()`` of the grown model as it was built.
        roles: what the tensors are for, by adapter of the grown graph.
        seed: of the noise of "copy".

    Raises:
        AdapterError: an origin is not in its module, or origins of one adapter have different tensors, or modules
            differ in what their adapters share.
    """
    state = _shared(modules, fresh)
    for name, source in sources.items():
        tensors = _start(modules, source, fresh, name, roles[name], seed)
        state.update({f"{name}/{key}": tensor for key, tensor in tensors.items()})
    return state


def _shared(modules: Sequence[State], fresh: State) -> dict[str, Tensor]:
    state = {}
    for key in (key for key in fresh if key.startswith(SHARED)):
        first, *others = [module[key] for module in modules if key in module] or [fresh[key]]
        if not all(torch.equal(first, other) for other in others):
            raise AdapterError(
                f"the graphs to be joined differ in {key}, which their adapters share: they were trained on "
                "different bases, or each has trained it in its own way; such graphs cannot be joined"
            )
        state[key] = first.clone()
    return state


def adapter_state(state: State, name: str) -> dict[str, Tensor]:
    """Return the tensors of one adapter, without its name in the keys.

    Raises:
        AdapterError: the state does not hold the adapter.
    """
    prefix = f"{name}/"
    tensors = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not tensors:
        held = sorted({key.split("/", 1)[0] for key in state})
        raise AdapterError(f"adapter {name!r} is not in the state, which holds {held}")
    return tensors


def _start(
    modules: Sequence[State], source: AdapterSource, fresh: State, name: str, roles: Roles, seed: int
) -> dict[str, Tensor]:
    if source.is_new:
        return adapter_state(fresh, name)
    origins = [_origin(modules, origin) for origin in source.origins]
    first = origins[0]
    if source.kind == "keep":
        return {key: tensor.clone() for key, tensor in first.items()}
    if source.kind == "zero":
        if not roles.updates:
            raise AdapterError(f"adapter {name!r}: adapters of this type cannot start at zero; use 'fresh' or 'copy'")
        return {
            key: torch.zeros_like(tensor) if key in roles.updates else tensor.clone() for key, tensor in first.items()
        }
    if source.kind == "copy":
        noise = {key: 0.0 if key in roles.fixed else source.noise for key in first}
        return {key: _noisy(tensor, noise[key], seed, name, key) for key, tensor in first.items()}
    return _mean(origins, roles, name)


def _origin(modules: Sequence[State], origin: TrainedAdapter) -> dict[str, Tensor]:
    if not 0 <= origin.module < len(modules):
        raise AdapterError(f"origin {origin.adapter!r}: got module {origin.module}, there are {len(modules)}")
    return adapter_state(modules[origin.module], origin.adapter)


def _noisy(tensor: Tensor, noise: float, seed: int, name: str, key: str) -> Tensor:
    if noise == 0 or not tensor.is_floating_point() or tensor.numel() < 2:
        return tensor.clone()
    drawn = torch.from_numpy(stream(seed, "copy", name, key).standard_normal(tensor.shape)).to(tensor.dtype)
    return tensor + noise * tensor.std() * drawn * (tensor != 0)


def _mean(origins: Sequence[Mapping[str, Tensor]], roles: Roles, name: str) -> dict[str, Tensor]:
    first = origins[0]
    mean: dict[str, Tensor] = {}
    for key, tensor in first.items():
        others = [origin.get(key) for origin in origins]
        tensors = [other for other in others if other is not None and other.shape == tensor.shape]
        if len(tensors) != len(origins):
            raise AdapterError(f"adapter {name!r}: its origins differ in {key}; they must share type, rank and targets")
        if tensor.is_floating_point() and key not in roles.fixed:
            mean[key] = torch.stack(tensors).mean(0)
        elif all(torch.equal(tensor, other) for other in tensors):
            mean[key] = tensor.clone()
        else:
            raise AdapterError(f"adapter {name!r}: its origins differ in {key}, which has no mean; use 'copy'")
    return mean
