"""The cost of families of adapters: memory as torch counts it, and the table that is made of the figures."""

import torch

from benchmarks.adapter_maps import table
from benchmarks.allocated import allocated_peak

FOUR_KB = 1024
"""Numbers of 4 bytes."""


def test_memory_is_what_stands_at_once_and_not_what_was_there_before() -> None:
    before = torch.ones(FOUR_KB)

    def call() -> None:
        first = before + 1  # 4 kB
        second = torch.cat([first, first])  # 12 kB stand
        del first
        second.add_(1)
        del second
        torch.ones(FOUR_KB)  # 4 kB stand

    assert allocated_peak(call) == 12 * FOUR_KB


def row(family: str, nodes: int, memory: int, ratio: float) -> dict[str, str | int | float]:
    return {
        "family": family,
        "nodes": nodes,
        "trained_per_node": 1000,
        "stored_bytes_per_node": 12000,
        "stored_bytes_shared": 0,
        "sent_bytes_per_node": 5000,
        "memory_bytes": memory,
        "setup_s": 0.25,
        "ratio": ratio,
        "low": 0.5,
        "high": 2.0,
    }


def test_the_table_has_a_row_a_family_with_memory_over_that_of_lora() -> None:
    rows = [
        row("lora", 16, 2_000_000, 1.0),
        row("loft", 16, 3_000_000, 1.1),
        row("lora", 64, 4_000_000, 1.0),
        row("loft", 64, 3_000_000, 0.9),
    ]
    titles, _, lora, loft = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table(rows).splitlines())
    assert lora == ["`lora`", "1", "1", "1.00 (2 MB)", "1.00 (4 MB)", "1,000", "12,000", "5,000", "0", *["0.25 s"] * 2]
    assert dict(zip(titles[:5], loft[:5], strict=True)) == {
        "family": "`loft`",
        "time, 16 nodes": "1.10 (0.50 to 2.00)",
        "time, 64 nodes": "0.90 (0.50 to 2.00)",
        "memory, 16 nodes": "1.50 (3 MB)",
        "memory, 64 nodes": "0.75 (3 MB)",
    }
