"""Two processes with a node absent on one of them against one process."""

from pathlib import Path

import pytest
import torch
import torch.distributed
from adapter_families import MIXTURE, SPECS
from forked import run_together
from peft import PeftModel
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from neuromas.adapters.build import build_model
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.kinds import AdapterKinds
from neuromas.adapters.position import AdapterPosition

NAMES = ("a", "b", "c")
MIXED_POSITIONS = (AdapterPosition("a"), AdapterPosition("b", group="hyper"), AdapterPosition("c", group="loft-random"))
KINDS: dict[str, AdapterSpec | AdapterKinds] = {**SPECS, "mixed": MIXTURE}
ROUTES = [0, 1, 2, 2, 0, 0]  # the second process has no row of "b"
pytestmark = pytest.mark.timeout(900)  # two more processes that each import the whole stack
CASES = [f"{name}/{wrap}" for name in KINDS for wrap in ("replicated", "sharded")]


def file_of(case: str) -> str:
    return case.replace("/", "-") + ".pt"


def replicated(model: PeftModel) -> torch.nn.Module:
    return DistributedDataParallel(model)


def sharded(model: PeftModel) -> torch.nn.Module:
    for block in model.base_model.model.model.layers:
        fully_shard(block)
    return fully_shard(model)


def alone(model: PeftModel) -> torch.nn.Module:
    return model


def gradients(base: Path, kind: str, rows: slice, wrap) -> dict[str, torch.Tensor]:
    model, bank = build_model(base, KINDS[kind], MIXED_POSITIONS if kind == "mixed" else NAMES, seed=0)
    for owned in bank.trained():
        owned.tensor.data += 0.2 * torch.randn(owned.tensor.shape, generator=torch.Generator().manual_seed(1))
    module = wrap(model)
    ids = torch.randint(0, 40, (len(ROUTES), 9), generator=torch.Generator().manual_seed(2))[rows]
    bank.set_routes(ROUTES[rows])
    module(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    found = {owned.key: owned.rows(owned.tensor.grad) for owned in bank.trained()}
    return {key: grad.full_tensor() if isinstance(grad, DTensor) else grad for key, grad in found.items()}


def process(rank: int, base: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for case in CASES:
        method, wrap = case.split("/")
        rows = slice(3 * rank, 3 * rank + 3)
        found = gradients(Path(base), method, rows, {"replicated": replicated, "sharded": sharded}[wrap])
        if rank == 0:
            torch.save(found, f"{folder}/{case.replace('/', '-')}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def from_two_processes(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gradients")
    run_together(process, 2, str(small_base), str(folder))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_data_parallel_gradient_equals_one_process(small_base: Path, from_two_processes: Path, case: str):
    found = torch.load(from_two_processes / f"{case.replace('/', '-')}.pt")
    expected = gradients(small_base, case.split("/")[0], slice(0, 6), alone)
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert set(found) == set(expected)
    for key, gradient in expected.items():
        assert gradient.flatten(1).norm(dim=1).min() > 0
        assert (found[key] - gradient).abs().max() < 1e-6 * largest
