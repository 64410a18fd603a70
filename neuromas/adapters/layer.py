"""A linear layer of the base with the adapters of all nodes beside it."""

from __future__ import annotations

from collections.abc import Mapping

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from neuromas.adapters.families.map import AdapterMap
from neuromas.adapters.kernels import add_update
from neuromas.adapters.route import Route
from neuromas.errors import AdapterError

MERGE_REFUSED = (
    "merge: the adapters of several nodes cannot be merged into one base; export one adapter with "
    "neuromas.adapters.export.write_peft_folder and merge that with stock PEFT"
)


class NodeAdapterLinear(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """base(x) plus the update of each row's adapter, with the pair evaluated inside the forward pass."""

    def __init__(
        self,
        base_layer: nn.Linear,
        path: str,
        adapter_map: AdapterMap,
        route: Route,
        scale: float,
        owned: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features = base_layer.in_features
        self.out_features = base_layer.out_features
        self.path = path
        self.scale = scale
        # The map and the route are plain objects shared by all layers of one model, not submodules.
        self._map = adapter_map
        self._route = route
        # PEFT makes trainable what it finds under these names.
        self.adapter_layer_names = tuple(name for name, part in owned.items() if isinstance(part, nn.ParameterDict))
        for name, part in owned.items():
            self.add_module(name, part)
        self._disable_adapters = False
        self.merged_adapters: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, shape (rows, tokens, out_features).

        Raises:
            AdapterError: the batch has no row dimension, or the route does not fit it.
        """
        y: Tensor = self.base_layer(x)
        if self._disable_adapters:
            return y
        if x.ndim != 3:
            raise AdapterError(
                f"adapter layer {self.path}: got input of shape {tuple(x.shape)}, expected (rows, tokens, "
                f"{self.in_features}); layers that see flattened tokens cannot carry node adapters"
            )
        plan = self._route.plan(x.shape[0], x.device)
        a, b = self._map.pair(self.path, plan.present)
        return add_update(y, x, a, b, plan, self.scale)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse: see the message."""
        raise AdapterError(MERGE_REFUSED)

    def unmerge(self) -> None:
        """Refuse: nothing was ever merged."""
        raise AdapterError(MERGE_REFUSED)
