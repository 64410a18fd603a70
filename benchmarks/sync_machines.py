"""What a publish costs between machines: plain LoRAs that travel, against vectors of which each worker makes them.

    python -m benchmarks.sync_machines [--nodes 16] [--repeats 5]

Raylets of this machine stand for machines; nothing is sent over a network. Adapters are Uni-LoRA's, whose pairs follow
from a vector, the shapes of the base and the seed; a worker makes them as the learner does. Seconds are those that all
processes spend on a processor, without what they spend while nothing is published. Shapes: SmolLM2-135M's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from peft import get_peft_model
from ray.cluster_utils import Cluster
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.measure import Cell, report
from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import adapter_config
from neuromas.adapters.families.unilora.spec import UniLoraSpec

RANK, DIMENSION = 8, 4096
CALLS = 5
"""Publishes between two looks at the clock of processes, which counts in hundredths of a second."""
PAUSE_S = 0.5
STORE_BYTES = 600 << 20
PLACES: Mapping[str, Sequence[int]] = {"the same machine": (0,), "another machine": (1,), "two others": (1, 2)}


def make_bank(nodes: int) -> AdapterBank:
    """Return adapters on a random base with the layers of SmolLM2-135M; its embeddings are small."""
    config = Qwen3Config(
        vocab_size=256,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config).requires_grad_(False)
    spec = UniLoraSpec(rank=RANK, dimension=DIMENSION)
    return AdapterBank(get_peft_model(model, adapter_config(spec, [f"n{k}" for k in range(nodes)], seed=0)))


class Worker:
    """A process that gets adapters; what its engine would do with the pairs is the same either way and left out."""

    def __init__(self, nodes: int) -> None:
        self._bank = make_bank(nodes)

    def take(self, pairs: Mapping[str, Any]) -> int:
        """Get the pairs."""
        return len(pairs)

    def make(self, vectors: Any) -> int:
        """Get the vectors, make the pairs."""
        self._bank.trained()[0].tensor.data.copy_(torch.from_numpy(vectors))
        return len(self._bank.export_all())


def send_pairs(bank: AdapterBank, workers: Sequence[Any]) -> None:
    pairs = ray.put(bank.export_all())
    ray.get([worker.take.remote(pairs) for worker in workers])


def send_vectors(bank: AdapterBank, workers: Sequence[Any]) -> None:
    vectors = ray.put(bank.trained()[0].tensor.detach().numpy().copy())
    ray.get([worker.make.remote(vectors) for worker in workers])


def processor_seconds() -> float:
    """Return what this process and all that come of it have spent on a processor."""
    used, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
        used[int(folder.name)] = int(fields[11]) + int(fields[12])
    own = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(used[pid] for pid in own) / os.sysconf("SC_CLK_TCK")


def seconds_of(publish: Callable[[], None]) -> float:
    """Return the seconds of one publish."""
    began, used = time.perf_counter(), processor_seconds()
    for _ in range(CALLS):
        publish()
    took, used = time.perf_counter() - began, processor_seconds() - used
    idle = processor_seconds()
    time.sleep(PAUSE_S)
    return (used - (processor_seconds() - idle) * took / PAUSE_S) / CALLS


def measure(bank: AdapterBank, place: str, workers: Sequence[Any], repeats: int) -> dict[str, Cell]:
    """One row: both ways in turns."""
    ways = {"pairs": partial(send_pairs, bank, workers), "vectors": partial(send_vectors, bank, workers)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, repeats):
        for name in ways if turn % 2 else reversed(ways):
            found = seconds_of(ways[name])
            if turn >= 0:
                seconds[name].append(found)
    ratios = [vectors / pairs for pairs, vectors in zip(seconds["pairs"], seconds["vectors"], strict=True)]
    return {
        "workers on": place,
        **{f"{name}_s": statistics.median(found) for name, found in seconds.items()},
        "vectors_over_pairs": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    torch.set_num_threads(1)
    options: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **options})
    for _ in range(2):
        cluster.add_node(**options)
    environment = {"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}}
    ray.init(cluster.address, log_to_driver=False, runtime_env=environment)
    here = ray.get_runtime_context().get_node_id()
    nodes = sorted((node["NodeID"] for node in ray.nodes()), key=lambda id: id != here)
    workers = [
        ray.remote(num_cpus=1, label_selector={"ray.io/node-id": id})(Worker).remote(arguments.nodes) for id in nodes
    ]
    bank = make_bank(arguments.nodes)
    rows = [
        measure(bank, place, [workers[index] for index in places], arguments.repeats)
        for place, places in PLACES.items()
    ]
    pairs, vectors = bank.export_all()["n0"].num_bytes, 4 * DIMENSION
    title = f"a publish of {arguments.nodes} adapters; bytes of one: pairs {pairs:,}, vector {vectors:,}"
    report(title, rows, arguments.json)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
