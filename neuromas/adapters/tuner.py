"""The PEFT method "NEUROMAS": one PEFT adapter that holds the adapters of all nodes, stacked.

PEFT and TRL see an ordinary ``PeftModel`` with one adapter named "default": ``get_peft_model``, TRL's
``peft_config=``, ``disable_adapter``, ``save_pretrained`` and ``from_pretrained`` work unchanged. Importing this
module makes the method known to PEFT.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from transformers import PreTrainedModel

from neuromas.adapters.families.map import SLOT, AdapterMap
from neuromas.adapters.families.registry import adapter_spec
from neuromas.adapters.kinds import AdapterKinds
from neuromas.adapters.layer import MERGE_REFUSED, NodeAdapterLinear
from neuromas.adapters.mixed import MixedMap, make_map
from neuromas.adapters.position import AdapterPosition
from neuromas.adapters.route import Route
from neuromas.errors import AdapterError
from neuromas.topology.graph import NAME

METHOD = "NEUROMAS"


@dataclass
class NodeAdapterConfig(PeftConfig):  # type: ignore[misc]
    """What PEFT stores in ``adapter_config.json``; everything needed to rebuild the model around saved weights."""

    positions: list[dict[str, Any]] = field(default_factory=list, metadata={"help": "Adapters, in stacking order."})
    adapter: dict[str, Any] = field(default_factory=dict, metadata={"help": "The section of the run spec."})
    groups: dict[str, Any] = field(default_factory=dict, metadata={"help": "The sections of groups, by their names."})
    seed: int = field(default=0, metadata={"help": "Seed of starts and projections."})
    target_modules: list[str] = field(default_factory=list, metadata={"help": "Names of linear layers."})

    def __post_init__(self) -> None:
        """Check what does not need the base model."""
        super().__post_init__()
        self.peft_type = METHOD
        names = self.names
        faults = [name for name in names if not NAME.fullmatch(name)]
        if not names or faults or len(set(names)) != len(names):
            raise AdapterError(
                f"adapter names: got {names}, expected at least one, all different, of lower-case letters, digits, "
                "'.', '_' and '-' (at most 63); they come from the node ids of the topology"
            )
        groups = {group: adapter_spec(section) for group, section in self.groups.items()}
        self.kinds = AdapterKinds(adapter_spec(self.adapter), groups)
        if unknown := sorted(
            {str(position.get("group", "")) for position in self.positions} - set(self.kinds.sections)
        ):
            raise AdapterError(f"node groups: got {unknown}, allowed are {sorted(groups)} (run.node_groups)")

    @property
    def names(self) -> list[str]:
        """Names of the adapters, in stacking order."""
        return [str(position["name"]) for position in self.positions]

    def make_map(self) -> AdapterMap:
        """Return a map without modules."""
        return make_map(self.kinds, [AdapterPosition(**position) for position in self.positions], self.seed)


class NodeAdapterTuner(BaseTuner):  # type: ignore[misc]
    """Puts a ``NodeAdapterLinear`` around every targeted linear layer of the base."""

    prefix = "neuromas_"
    tuner_layer_cls = NodeAdapterLinear
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - the name and type that PEFT reads

    def _pre_injection_hook(self, model: PreTrainedModel, config: NodeAdapterConfig, adapter_name: str) -> None:
        if adapter_name != SLOT:
            raise AdapterError(
                f"adapter slot: got {adapter_name!r}, allowed is {SLOT!r}, which holds all node adapters"
            )
        check_targets(model, config.target_modules)
        self.route = Route(len(config.names))
        self.adapter_map = config.make_map()
        # A mixture of kinds scales each pair on its own.
        self.scale = 1.0 if isinstance(self.adapter_map, MixedMap) else config.kinds.usual.scale
        self._shared_names: tuple[str, ...] = ()

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Place the layers, then what they share. A second adapter is refused: see the message."""
        if adapter_name != SLOT:
            del self.peft_config[adapter_name]
            raise AdapterError(
                f"adapter slot: got a second PEFT adapter {adapter_name!r}; all node adapters live in {SLOT!r}. For a "
                "KL reference disable the adapter instead (set beta on the trainer after it is built)"
            )
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        shared = self.adapter_map.finish(next(model.parameters()).device)
        for name, module in shared.items():
            self.add_module(name, module)
        self._shared_names = tuple(name for name, module in shared.items() if isinstance(module, nn.ParameterDict))
        self.register_load_state_dict_post_hook(lambda tuner, _: tuner.adapter_map.refresh())
        self._train_shared(not self.peft_config[adapter_name].inference_mode)

    def _create_and_replace(
        self,
        config: NodeAdapterConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if not isinstance(target, nn.Linear):
            raise AdapterError(
                f"adapter.targets: {current_key} is a {type(target).__name__}, allowed are plain linear layers"
            )
        owned = self.adapter_map.add_module(current_key, target)
        layer = NodeAdapterLinear(target, current_key, self.adapter_map, self.route, self.scale, owned)
        self._replace_module(parent, target_name, layer, target)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Activate the one adapter; trainable unless ``inference_mode``."""
        # Parameters at the root are on no layer, so PEFT's walk over layers does not reach them.
        super().set_adapter(adapter_name, inference_mode=inference_mode)
        self._train_shared(not inference_mode)

    def _train_shared(self, trainable: bool) -> None:
        for name in self._shared_names:
            self.get_submodule(name).requires_grad_(trainable)

    def _check_merge_allowed(self) -> None:
        raise AdapterError(MERGE_REFUSED)

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> nn.Module:
        if merge:
            raise AdapterError(MERGE_REFUSED)
        base: nn.Module = super()._unload_and_optionally_merge(merge, *args, **kwargs)
        return base


def check_targets(model: PreTrainedModel, targets: list[str]) -> None:
    """Refuse target names that the base does not have, that are not linear, or that are its embeddings or head.

    Raises:
        AdapterError: names what was got and what is allowed.
    """
    head = model.get_output_embeddings()
    linear = {
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    wrong = sorted(set(targets) - linear)
    if wrong or not targets:
        raise AdapterError(
            f"adapter.targets: got {wrong or 'no names'}, allowed are {sorted(linear)}; the head and the embeddings "
            "cannot carry adapters (the trainer computes log-probabilities from the head in chunks, and engines do "
            "not apply adapters there)"
        )


def register() -> None:
    """Make the method known to PEFT, whose own registration refuses names outside its enum."""
    PEFT_TYPE_TO_CONFIG_MAPPING[METHOD] = NodeAdapterConfig
    PEFT_TYPE_TO_TUNER_MAPPING[METHOD] = NodeAdapterTuner
    PEFT_TYPE_TO_PREFIX_MAPPING[METHOD] = NodeAdapterTuner.prefix


register()
