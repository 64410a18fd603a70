"""The adapters of all nodes of one model: names, routes, exports, states, gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from neuromas.adapters.directions import LayerStatistics, StartNeeds
from neuromas.adapters.families.map import AdapterMap, AnyPairMap, DataStartedMap, Owned
from neuromas.adapters.ref import PlainLora
from neuromas.adapters.source import Roles
from neuromas.adapters.tuner import NodeAdapterConfig, NodeAdapterTuner
from neuromas.errors import AdapterError


class AdapterBank:
    """A view of a model's stacked adapters by name. Holds no weights of its own.

    Attributes:
        names: adapter names in stacking order; ``index(name)`` is what routes are made of.
        groups: what is clipped and stepped on its own: the adapters and, where those of a kind share trained tensors,
            the ``Owned.owner`` of these.
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
        self._scale = tuner.scale
        groups = [str(position["group"]) for position in config.positions]
        self._scales = [config.kinds.sections[group].scale for group in groups]
        self.names: tuple[str, ...] = tuple(config.names)
        sharing = {owned.owner: owned.members for owned in self.trained() if owned.dim is None}
        self.groups = (*self.names, *sharing)
        everyone = tuple(range(len(self.names)))
        self._sharing = [everyone if members is None else members for members in sharing.values()]
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

    def with_shared(self, free: Tensor, moved: Tensor) -> Tensor:
        """Return which groups move in a step, shape (groups,), bool.

        What adapters share moves with any of them, unless one of them is held still: it would move that one, too.

        Args:
            free: whether each adapter may move, shape (adapters,), bool.
            moved: whether it does.
        """
        shared = [bool(free[list(ids)].all() and moved[list(ids)].any()) for ids in self._sharing]
        return torch.cat([moved, torch.tensor(shared, dtype=torch.bool, device=moved.device)])

    def tensors(self) -> Sequence[Owned]:
        """Return all that is kept of the adapters."""
        return self._map.tensors()

    def trained(self) -> Sequence[Owned]:
        """Return what training moves: every trainable parameter of the model."""
        return [owned for owned in self._map.tensors() if owned.is_trained]

    def stacks(self) -> Sequence[Owned]:
        """Return the trained tensors that each adapter has for itself, stacked over adapters."""
        return [owned for owned in self.trained() if owned.dim is not None]

    def roles(self) -> dict[str, Roles]:
        """Return what each adapter's own tensors are for, by its name."""
        tensors = self.tensors()
        found = {}
        for k, name in enumerate(self.names):
            own = [owned for owned in tensors if owned.row_of(k) is not None]
            fixed = {owned.key for owned in own if not owned.is_trained} | set(self._family(k).constants())
            found[name] = Roles(frozenset(owned.key for owned in own if owned.is_update), frozenset(fixed))
        return found

    def node_parameters(self, name: str) -> dict[str, Tensor]:
        """Return views of one adapter's trained tensors by key; writing to them changes the model."""
        return self._views(self.stacks(), self.index(name))

    def num_trainable(self, name: str) -> int:
        """Return how many numbers training moves in one adapter alone."""
        return sum(tensor.numel() for tensor in self.node_parameters(name).values())

    def _family(self, k: int) -> AdapterMap:
        """Return the map of one adapter's family."""
        return self._map.located(k)[0]

    def _views(self, tensors: Sequence[Owned], k: int) -> dict[str, Tensor]:
        """Return views of one adapter's rows of its own tensors, by key."""
        rows = ((owned, owned.row_of(k)) for owned in tensors)
        return {owned.key: owned.rows(owned.tensor.detach())[row] for owned, row in rows if row is not None}

    def scale(self, name: str) -> float:
        """Return the factor of ``B @ A`` in an adapter's kind."""
        return self._scales[self.index(name)]

    def pairs(self, index: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the path of each module with A and B of the adapters at ``index``, scaled and differentiable."""
        present = index.to(self.trained()[0].tensor.device)
        for shape in self._map.modules():
            a, b = self._map.pair(shape.path, present)
            yield shape.path, a, b if self._scale == 1 else b * self._scale

    # -- starts

    def modules(self, name: str) -> tuple[str, ...]:
        """Return the paths of the layers that an adapter acts on."""
        part = self._family(self.index(name))
        return tuple(shape.path for shape in self._map.modules() if part.adapts(shape.path))

    def start_needs(self, name: str, *, from_inputs: bool) -> StartNeeds | None:
        """Return what a new adapter starts from beside base and seed; see ``DataStartedMap.start_needs``."""
        family, _ = self._map.located(self.index(name))
        return family.start_needs(from_inputs=from_inputs) if isinstance(family, DataStartedMap) else None

    @torch.no_grad()
    def start(self, name: str, found: Mapping[str, LayerStatistics]) -> None:
        """Give a new adapter its start from what was found of its layers; it goes on acting as the base."""
        family, position = self._map.located(self.index(name))
        assert isinstance(family, DataStartedMap), "only these have needs"
        family.start(position, found)
        self._map.refresh()

    @torch.no_grad()
    def take(self, name: str, lora: PlainLora) -> None:
        """Make a new adapter act as a LoRA.

        Raises:
            AdapterError: its rank is too high, it acts on a layer that the adapter leaves alone or that has another
                shape, or the adapter's kind cannot be any LoRA.
        """
        family, position = self._map.located(self.index(name))
        if not isinstance(family, AnyPairMap):
            raise AdapterError(
                f"adapter {name!r}: adapters of its type cannot be any LoRA; give it one whose pairs are trained "
                "themselves (adapter.type)"
            )
        if lora.rank > family.rank:
            raise AdapterError(f"adapter {name!r}: got a LoRA of rank {lora.rank}, it has room for {family.rank}")
        if beyond := sorted(path for path in lora.modules if not family.adapts(path)):
            raise AdapterError(
                f"adapter {name!r}: got a LoRA that acts on {beyond[0]} ({len(beyond)} such layers), which this one "
                "leaves alone; name them in adapter.targets"
            )
        scale = self.scale(name)
        pairs = {path: (torch.from_numpy(a), torch.from_numpy(b) / scale) for path, (a, b) in lora.modules.items()}
        family.take(position, pairs)

    # -- gradients

    def grad_norms(self) -> Tensor:
        """Return the gradient's Euclidean norm per group, float32, shape (groups,); 0 where there is no gradient."""
        squares = torch.zeros(len(self.groups), device=self.trained()[0].tensor.device)
        for owned in self.trained():
            if owned.tensor.grad is not None:
                rows = owned.rows(owned.tensor.grad).flatten(1).float().square().sum(1)
                squares.index_add_(0, owned.positions(self.groups), rows)
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
                own = factors[owned.positions(self.groups)].to(rows.dtype)
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
        parts = [self._family(self.index(name)) for name in names]
        for shape in self._map.modules():
            a, b = self._map.pair(shape.path, present)
            stacked_a = _copy_out(a)
            stacked_b = _copy_out(b if self._scale == 1 else b * self._scale)
            for k, (part, pairs) in enumerate(zip(parts, modules, strict=True)):
                if part.adapts(shape.path):  # beyond the part's own rank all is zero
                    own_a, own_b = stacked_a[k][: part.rank], stacked_b[k][:, : part.rank]
                    pairs[shape.path] = (np.ascontiguousarray(own_a), np.ascontiguousarray(own_b))
        found = zip(names, parts, modules, strict=True)
        return {name: PlainLora(part.rank, pairs) for name, part, pairs in found}

    # -- states

    def state(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return what restores the named adapters (None = all), as copies on the CPU.

        Keys are ``<adapter>/<tensor>``, those of shared tensors ``<Owned.owner>/<tensor>``, plus the family's
        constants; the dict can be saved as safetensors as it is.
        """
        chosen = self.names if names is None else tuple(names)
        state: dict[str, Tensor] = {}
        for owned in self.tensors():
            rows = owned.rows(owned.tensor.detach()).to("cpu")
            for name, row in self._owners(owned, chosen):
                state[f"{name}/{owned.key}"] = rows[row].clone(memory_format=torch.contiguous_format)
        for name in chosen:
            for key, value in self._family(self.index(name)).constants().items():
                state[f"{name}/{key}"] = value.clone()
        return state

    def _owners(self, owned: Owned, names: Iterable[str]) -> list[tuple[str, int]]:
        """Return the names under which rows of a tensor are stored, and which rows."""
        if owned.dim is None:
            return [(owned.owner, 0)]
        rows = ((name, owned.row_of(self.index(name))) for name in names)
        return [(name, row) for name, row in rows if row is not None]

    def load_all(self, state: Mapping[str, Tensor]) -> None:
        """Set every adapter, and what they share, from ``state``.

        Raises:
            AdapterError: see ``load``.
        """
        shared: dict[str, dict[str, Tensor]] = {}
        for owned in self.tensors():
            if owned.dim is None:
                shared.setdefault(owned.owner, {})[owned.key] = owned.tensor
        given = _by_owner(state)
        for owner, tensors in shared.items():
            _fill(owner, tensors, {}, given.get(owner, {}))
        for name in self.names:
            self._set(name, given.get(name, {}))
        self._map.refresh()

    def load(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Set one adapter from ``state``, which may hold other adapters too.

        Raises:
            AdapterError: a tensor is missing, unexpected, of another shape or not finite, or the state belongs to
                another projection. Nothing is changed then.
        """
        self._set(name, _by_owner(state).get(name, {}))
        self._map.refresh()

    def _set(self, name: str, given: Mapping[str, Tensor]) -> None:
        k = self.index(name)
        _fill(name, self._views(self.tensors(), k), self._family(k).constants(), given)


def _by_owner(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each adapter, and of what adapters share, without that name in front of theirs."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        owner, _, name = key.partition("/")
        found.setdefault(owner, {})[name] = tensor
    return found


@torch.no_grad()
def _fill(
    name: str, targets: Mapping[str, Tensor], constants: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> None:
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
