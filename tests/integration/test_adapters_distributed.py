"""Two processes with a node absent on one of them against one process."""

from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from neuromas.adapters.build import build_model
from neuromas.spec.parts import AdapterSpec

NAMES = ("a", "b", "c")
ROUTES = [0, 1, 2, 2, 0, 0]  # the second process has no row of "b"
SPEC = AdapterSpec(rank=3)


def gradients(base: Path, rows: slice, distributed: bool) -> dict[str, torch.Tensor]:
    model, bank = build_model(base, SPEC, NAMES, seed=0)
    for stack in bank.stacks():
        stack.parameter.data += 0.2 * torch.randn(stack.parameter.shape, generator=torch.Generator().manual_seed(1))
    module = DistributedDataParallel(model) if distributed else model
    ids = torch.randint(0, 40, (len(ROUTES), 9), generator=torch.Generator().manual_seed(2))[rows]
    bank.set_routes(ROUTES[rows])
    module(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return {stack.key: stack.parameter.grad for stack in bank.stacks()}


def process(rank: int, base: str, meeting: str, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    found = gradients(Path(base), slice(3 * rank, 3 * rank + 3), distributed=True)
    if rank == 0:
        torch.save(found, out)
    torch.distributed.destroy_process_group()


def test_data_parallel_gradient_equals_one_process(small_base: Path, tmp_path: Path):
    out = tmp_path / "gradients.pt"
    torch.multiprocessing.spawn(process, (str(small_base), str(tmp_path / "meeting"), str(out)), nprocs=2)
    found = torch.load(out)
    expected = gradients(small_base, slice(0, 6), distributed=False)
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert set(found) == set(expected)
    for key, gradient in expected.items():
        assert gradient.flatten(1).norm(dim=1).min() > 0
        assert (found[key] - gradient).abs().max() < 1e-6 * largest
