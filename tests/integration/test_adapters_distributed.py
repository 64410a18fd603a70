"""Two processes with a node absent on one of them against one process."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed
from adapter_families import MIXTURE, SPECS
from forked import run_together
from peft import PeftModel
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from neuromas.adapters.build import build_model
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.kinds import AdapterKinds
from neuromas.adapters.position import AdapterPosition
from neuromas.training.not_finite import cause_of
from neuromas.training.peers import TorchPeers
from neuromas.training.sharded_base import Sharding, average_gradients, held, shard_base

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
    shard_base(model, init_device_mesh("cpu", (2,)), "cpu")
    return model


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
    if wrap is sharded:
        average_gradients(bank)
    return {owned.key: owned.rows(owned.tensor.grad) for owned in bank.trained()}


def held_bytes(model: torch.nn.Module) -> list[tuple[int, int]]:
    """Return what this process holds of each tensor of the base, and what all of it is."""
    frozen = [tensor for tensor in model.parameters() if not tensor.requires_grad]
    return [(held(tensor).untyped_storage().nbytes(), tensor.numel() * tensor.element_size()) for tensor in frozen]


def look_at_shares(rank: int, base: str, folder: str) -> None:
    """Compute as a stage does, with a backward pass and without, and look at what is held after each."""
    sharding = Sharding(TorchPeers(), "cpu")
    sharding.turns.begin()
    model, bank = build_model(Path(base), KINDS["lora"], NAMES, seed=0)
    seen = [held_bytes(model)]
    sharding.share(model)
    ids = torch.full((1, 4), 3)
    bank.set_routes([0])
    for backward in (False, True):
        with torch.set_grad_enabled(backward):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        if backward:
            loss.backward()
        seen.append(held_bytes(model))
    # One process alone can say no more of numbers that are not finite, and must not wait for the other.
    causes = [cause_of(model, bank, lambda: model(input_ids=ids))]
    held(model.base_model.model.model.norm.weight)[0] = torch.inf
    causes.append(cause_of(model, bank, lambda: model(input_ids=ids)))
    Path(folder, f"shares-{rank}.json").write_text(json.dumps({"seen": seen, "causes": causes}))


def process(rank: int, base: str, folder: str) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for case in CASES:
        method, wrap = case.split("/")
        rows = slice(3 * rank, 3 * rank + 3)
        found = gradients(Path(base), method, rows, {"replicated": replicated, "sharded": sharded}[wrap])
        if rank == 0:
            torch.save(found, f"{folder}/{case.replace('/', '-')}.pt")
    look_at_shares(rank, base, folder)
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


def test_each_of_two_processes_holds_half_of_the_base(from_two_processes: Path):
    first, second = (json.loads((from_two_processes / f"shares-{rank}.json").read_text()) for rank in (0, 1))
    assert all(here == whole for here, whole in first["seen"][0])
    for looked in range(1, 3):  # after a pass without a backward pass, and after one with it
        for (one, whole), (other, _) in zip(first["seen"][looked], second["seen"][looked], strict=True):
            assert one + other == whole
        total = sum(whole for _, whole in first["seen"][looked])
        assert total / 2 <= sum(here for here, _ in first["seen"][looked]) <= 0.51 * total


def test_a_process_alone_says_what_it_can_of_numbers_that_are_not_finite(from_two_processes: Path):
    overflow, damaged = json.loads((from_two_processes / "shares-0.json").read_text())["causes"]
    assert overflow.startswith("all weights of this learner are finite: float32 overflows in a layer")
    assert damaged.startswith("the base's own model.norm.weight is not finite")
