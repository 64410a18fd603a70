"""The frozen base in shares, one on each data-parallel learner, gathered layer by layer as a pass comes by (FSDP2).

Source: fully sharded data parallelism, arXiv:2304.11277, and ZeRO-3, arXiv:1910.02054, for weights that are not
trained: they have no gradients and no moments to share. Adapters are whole on every learner.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from neuromas.adapters.bank import AdapterBank
from neuromas.errors import BaseModelError
from neuromas.training.peers import Peers
from neuromas.training.turns import Turns


class Sharding:
    """How the processes of a run share a base: with whom, and one after the other where they are on one machine.

    Attributes:
        turns: the base is whole in a process from the begin of its turn until it has its share.
    """

    def __init__(self, peers: Peers, device: str) -> None:
        """Prepare to share; all processes do so together, with the default process group initialised.

        Args:
            peers: all processes.
            device: "cpu" or "cuda", where the shares and the adapters go.
        """
        self.turns = Turns.of(peers)
        self._device, self._mesh = device, init_device_mesh(device, (peers.size,))

    def share(self, model: nn.Module) -> None:
        """Leave this process its share of the base, and end its turn; see ``shard_base``."""
        shard_base(model, self._mesh, self._device)
        self.turns.end()


def shard_base(model: nn.Module, mesh: DeviceMesh, device: str) -> None:
    """Leave this process its share of what ``model`` does not train; every pass of it is then one of all processes.

    Nothing may read the base's weights but a forward pass through ``model`` itself.

    Args:
        model: the base with adapters, whole and the same in all processes.
        mesh: of the processes.
        device: where the shares and the adapters go.

    Raises:
        BaseModelError: the base has no layers that can be gathered one by one.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise BaseModelError(
            f"runtime.shard_base: got true, but {type(model).__name__} is not built of layers that transformers can "
            "compute one by one; set it to false, or take another base"
        )
    whole = {tensor for tensor in model.parameters() if tensor.requires_grad}
    for module in (*layers, model):
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
    for tensor in whole:
        tensor.data = tensor.data.to(device)
    # accelerate would put DistributedDataParallel around it, which takes no shares: see ``average_gradients``.
    model._is_accelerate_prepared = True  # type: ignore[assignment]


def is_sharded(model: nn.Module) -> bool:
    """Whether this process holds only a share of the model's base."""
    return any(isinstance(tensor, DTensor) for tensor in model.parameters())


def held(tensor: Tensor) -> Tensor:
    """Return what this process holds of a parameter."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def average_gradients(bank: AdapterBank) -> None:
    """Put the mean over all processes in place of the gradient of everything that is trained."""
    trained = [owned.tensor for owned in bank.trained()]
    for tensor in trained:
        if tensor.grad is None:
            tensor.grad = torch.zeros_like(tensor)
    gradients = [tensor.grad for tensor in trained if tensor.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
