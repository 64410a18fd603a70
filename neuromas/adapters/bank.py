"""The adapters of all nodes of one model: names, routes, exports, states, gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from neuromas.adapters.families.contract import SHARED
from neuromas.adapters.families.map import Owned
from neuromas.adapters.ref import PlainLora
from neuromas.adapters.source import Roles
from neuromas.adapters.tuner import NodeAdapterConfig, NodeAdapterTuner
from neuromas.errors import AdapterError


class AdapterBank:
    """A view of a model's stacked adapters by name. Holds no weights of its own.

    Attributes:
        names: adapter names in stacking order; ``index(name)`` is what routes are made of.
        groups: what is clipped and stepped on its own: the adapters and, where they share trained tensors, ``SHARED``.
    """

    def __init__(self, model: PeftModel) -> None:
        """Wrap ``model``.

        Raises:
            AdapterError: the model was not built with the method of ``neuromas.adapters.tuner``.
        """
        tuner = model.base_model
        if not isinstance(tuner, NodeAdapterTuner):
            raise AdapterError(
                f"adapter bank: got a model with {type(tuner).__name__}, expected one made by adapters.build"
            )
        self._tuner = tuner
        self._map = tuner.adapter_map
        config: NodeAdapterConfig = tuner.peft_config[tuner.active_adapters[0]]
        self._scale = config.spec.scale
        self.names: tuple[str, ...] = tuple(config.names)
        self.groups = self.names if all(owned.dim is not None for owned in self.trained()) else (*self.names, SHARED)
        self._index = {name: k for k, name in enumerate(self.names)}

    # -- names and routes

    def index(self, name: str) -> int:
        """Return the position of an adapter in the stacks.

        Raises:
            AdapterError: there is no adapter of that name.
        """
        if name not in self._index:
            raise AdapterError(f"adapter {name!r} is not in this model, which has {list(self.names)}")
        return self._index[name]

    def set_routes(self, index: Tensor | Sequence[int]) -> None:
        """Assign row k of the following batches to adapter ``index[k]``; stays set until the next call.

        Raises:
            AdapterError: see ``Route.set``; a batch with another number of rows is refused in its forward pass.
        """
        self._tuner.route.set(index)

    # -- parameters

    def tensors(self) -> Sequence[Owned]:
        """Return all that is kept of the adapters."""
        return self._map.tensors()

    def trained(self) -> Sequence[Owned]:
        """Return what training moves: every trainable parameter of the model."""
        return [owned for owned in self._map.tensors() if owned.is_trained]

    def stacks(self) -> Sequence[Owned]:
        """Return the trained tensors that each adapter has for itself, stacked over adapters."""
        return [owned for owned in self.trained() if owned.dim is not None]

    def roles(self) -> Roles:
        """Return what an adapter's own tensors are for."""
        own = [owned for owned in self.tensors() if owned.dim is not None]
        fixed = {owned.key for owned in own if not owned.is_trained} | set(self._map.constants())
        return Roles(frozenset(owned.key for owned in own if owned.is_update), frozenset(fixed))

    def node_parameters(self, name: str) -> dict[str, Tensor]:
        """Return views of one adapter's trained tensors by key; writing to them changes the model."""
        k = self.index(name)
        return {stack.key: stack.rows(stack.tensor.detach())[k] for stack in self.stacks()}

    def num_trainable(self, name: str) -> int:
        """Return how many numbers training moves in one adapter alone (the same for all of a model)."""
        self.index(name)
        return sum(stack.tensor.numel() // len(self.names) for stack in self.stacks())

    def pairs(self, index: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the path of each module with A and B of the adapters at ``index``, scaled and differentiable."""
        present = index.to(self.trained()[0].tensor.device)
        for shape in self._map.modules():
            a, b = self._map.pair(shape.path, present)
            yield shape.path, a, b if self._scale == 1 else b * self._scale

    # -- gradients

    def grad_norms(self) -> Tensor:
        """Return the gradient's Euclidean norm per group, float32, shape (groups,); 0 where there is no gradient."""
        squares = torch.zeros(len(self.groups), device=self.trained()[0].tensor.device)
        for owned in self.trained():
            if owned.tensor.grad is not None:
                rows = owned.rows(owned.tensor.grad).flatten(1).float().square().sum(1)
                owned.of_groups(squares, len(self.names)).add_(rows)
        return squares.sqrt()

    def clip_(self, max_norm: float, norms: Tensor) -> None:
        """Scale each group's gradient to at most ``max_norm`` on its own; ``norms`` are those of ``grad_norms``."""
        self.scale_gradients_((max_norm / (norms + 1e-6)).clamp(max=1.0))

    def scale_gradients_(self, factors: Tensor) -> None:
        """Multiply the gradient of group k by ``factors[k]``, in place."""
        for owned in self.trained():
            gradient = owned.tensor.grad
            if gradient is not None:
                rows = owned.rows(gradient)
                own = owned.of_groups(factors, len(self.names)).to(rows.dtype)
                rows.mul_(own.view(-1, *[1] * (rows.ndim - 1)))

    # -- exports

    def export(self, name: str) -> PlainLora:
        """Return one adapter as a plain LoRA with its scale in B: what engines and PEFT files take."""
        present = torch.tensor([self.index(name)])
        return self._export([name], present)[name]

    def export_all(self) -> dict[str, PlainLora]:
        """Return all adapters by name, from one pass over the modules. The copies share no memory with the model."""
        return self._export(self.names, None)

    @torch.no_grad()
    def _export(self, names: Sequence[str], present: Tensor | None) -> dict[str, PlainLora]:
        device = self.trained()[0].tensor.device
        present = None if present is None else present.to(device)
        modules: list[dict[str, tuple[np.ndarray, np.ndarray]]] = [{} for _ in names]
        for shape in self._map.modules():
            a, b = self._map.pair(shape.path, present)
            stacked_a = _copy_out(a)
            stacked_b = _copy_out(b if self._scale == 1 else b * self._scale)
            for k, pairs in enumerate(modules):
                pairs[shape.path] = (stacked_a[k], stacked_b[k])
        return {name: PlainLora(self._map.rank, pairs) for name, pairs in zip(names, modules, strict=True)}

    # -- states

    def state(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return what restores the named adapters (None = all), as copies on the CPU.

        Keys are ``<adapter>/<tensor>``, those of shared tensors ``@shared/<tensor>``, plus the family's constants; the
        dict can be saved as safetensors as it is.
        """
        chosen = self.names if names is None else tuple(names)
        state: dict[str, Tensor] = {}
        for owned in self.tensors():
            rows = owned.rows(owned.tensor.detach()).to("cpu")
            for name, k in self._owners(owned, chosen):
                state[f"{name}/{owned.key}"] = rows[k].clone(memory_format=torch.contiguous_format)
        for name in chosen:
            for key, value in self._map.constants().items():
                state[f"{name}/{key}"] = value.clone()
        return state

    def _owners(self, owned: Owned, names: Iterable[str]) -> list[tuple[str, int]]:
        """Return the names under which rows of a tensor are stored, and which rows."""
        return [(SHARED, 0)] if owned.dim is None else [(name, self.index(name)) for name in names]

    def load_all(self, state: Mapping[str, Tensor]) -> None:
        """Set every adapter, and what they share, from ``state``.

        Raises:
            AdapterError: see ``load``.
        """
        shared = {owned.key: owned.rows(owned.tensor)[0] for owned in self.tensors() if owned.dim is None}
        _fill(SHARED, shared, {}, state)
        for name in self.names:
            self._set(name, state)
        self._map.refresh()

    def load(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Set one adapter from ``state``, which may hold other adapters too.

        Raises:
            AdapterError: a tensor is missing, unexpected, of another shape or not finite, or the state belongs to
                another projection. Nothing is changed then.
        """
        self._set(name, state)
        self._map.refresh()

    def _set(self, name: str, state: Mapping[str, Tensor]) -> None:
        k = self.index(name)
        own = {owned.key: owned.rows(owned.tensor)[k] for owned in self.tensors() if owned.dim is not None}
        _fill(name, own, self._map.constants(), state)


@torch.no_grad()
def _fill(
    name: str, targets: Mapping[str, Tensor], constants: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> None:
    prefix = f"{name}/"
    given = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    wrong = sorted(set(given) ^ (set(targets) | set(constants)))
    if wrong:
        raise AdapterError(
            f"adapter {name!r}: state and model differ in {wrong[:4]} ({len(wrong)} in all); the state must come "
            "from the same adapter type and targets"
        )
    for key, constant in constants.items():
        if not torch.equal(given[key], constant):
            raise AdapterError(
                f"adapter {name!r}: {key} is {given[key].tolist()}, this model has {constant.tolist()} (seed, "
                "length, dimension); build the model with the seed and sizes of the run that made the state"
            )
    for key, target in targets.items():
        if given[key].shape != target.shape or not bool(torch.isfinite(given[key]).all()):
            raise AdapterError(
                f"adapter {name!r}: {key} has shape {tuple(given[key].shape)}, expected finite numbers of shape "
                f"{tuple(target.shape)}; sizes and targets must be those of the state"
            )
    for key, target in targets.items():
        target.copy_(given[key])


def _copy_out(tensor: Tensor) -> np.ndarray:
    """Copy to a contiguous float32 array that shares no memory with the tensor."""
    out = tensor.to("cpu", torch.float32)
    shares = out.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    return (out.clone(memory_format=torch.contiguous_format) if shares else out.contiguous()).numpy()
