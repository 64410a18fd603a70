"""The adapters of all nodes of one model: names, routes, exports, states, gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from neuromas.adapters.maps.contract import Stack
from neuromas.adapters.ref import PlainLora
from neuromas.adapters.tuner import NodeAdapterConfig, NodeAdapterTuner
from neuromas.errors import AdapterError


class AdapterBank:
    """A view of a model's stacked adapters by name. Holds no weights of its own.

    Attributes:
        names: adapter names in stacking order; ``index(name)`` is what routes are made of.
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
        self._scale = config.scale
        self.names: tuple[str, ...] = tuple(config.names)
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

    def stacks(self) -> Sequence[Stack]:
        """Return all trained tensors, each stacked over adapters."""
        return self._map.stacks()

    def node_parameters(self, name: str) -> dict[str, Tensor]:
        """Return views of one adapter's trained tensors by key; writing to them changes the model."""
        k = self.index(name)
        return {stack.key: stack.rows(stack.parameter.detach())[k] for stack in self.stacks()}

    def num_trainable(self, name: str) -> int:
        """Return how many numbers training moves in one adapter (the same for all of a model)."""
        self.index(name)
        return sum(stack.parameter.numel() // len(self.names) for stack in self.stacks())

    # -- gradients

    def grad_norms(self) -> Tensor:
        """Return the gradient's Euclidean norm per adapter, float32, shape (N,); 0 where there is no gradient."""
        squares = [
            stack.rows(stack.parameter.grad).flatten(1).float().square().sum(1)
            for stack in self.stacks()
            if stack.parameter.grad is not None
        ]
        if not squares:
            return torch.zeros(len(self.names), device=self.stacks()[0].parameter.device)
        return torch.stack(squares).sum(0).sqrt()

    def clip_(self, max_norm: float) -> Tensor:
        """Scale each adapter's gradient to at most ``max_norm`` on its own; returns the norms before."""
        norms = self.grad_norms()
        self.scale_gradients_((max_norm / (norms + 1e-6)).clamp(max=1.0))
        return norms

    def scale_gradients_(self, factors: Tensor) -> None:
        """Multiply the gradient of adapter k by ``factors[k]``, in place."""
        for stack in self.stacks():
            gradient = stack.parameter.grad
            if gradient is not None:
                rows = stack.rows(gradient)
                rows.mul_(factors.to(rows.dtype).view(-1, *[1] * (rows.ndim - 1)))

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
        device = self.stacks()[0].parameter.device
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
        """Return what restores the named adapters (None = all), as float32 copies on the CPU.

        Keys are ``<adapter>/<module>/A`` and ``/B`` for LoRA, ``<adapter>/theta`` for Uni-LoRA, plus the method's
        constants; the dict can be saved as safetensors as it is.
        """
        chosen = self.names if names is None else tuple(names)
        state: dict[str, Tensor] = {}
        for stack in self.stacks():
            rows = stack.rows(stack.parameter.detach()).to("cpu")
            for name in chosen:
                state[f"{name}/{stack.key}"] = rows[self.index(name)].clone(memory_format=torch.contiguous_format)
        for name in chosen:
            for key, value in self._map.constants().items():
                state[f"{name}/{key}"] = value.clone()
        return state

    @torch.no_grad()
    def load(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Set one adapter from ``state``, which may hold other adapters too.

        Raises:
            AdapterError: a tensor is missing, unexpected, of another shape or not finite, or the state belongs to
                another projection. Nothing is changed then.
        """
        k = self.index(name)
        prefix = f"{name}/"
        given = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        targets = {stack.key: stack.rows(stack.parameter)[k] for stack in self.stacks()}
        constants = self._map.constants()
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
                    f"{tuple(target.shape)}; rank and targets must be those of the state"
                )
        for key, target in targets.items():
            target.copy_(given[key])


def _copy_out(tensor: Tensor) -> np.ndarray:
    """Copy to a contiguous float32 array that shares no memory with the tensor."""
    out = tensor.to("cpu", torch.float32)
    shares = out.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    return (out.clone(memory_format=torch.contiguous_format) if shares else out.contiguous()).numpy()
