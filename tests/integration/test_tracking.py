"""A run's metrics reach the trackers that the spec names, through TRL's ``report_to``."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from neuromas.journal import lines as journal
from neuromas.run.run import run
from neuromas.spec.parse import parse_run_spec

SPEC = {
    "name": "tracked",
    "topology": {"chain": 2},
    "task": {"type": "chain", "hops": 2},
    "training": {"steps": 2, "prompts_per_step": 2, "group_size": 4},
    "engine": {"type": "transformers"},
    "runtime": {"type": "local"},
    "evaluation": {"examples": 4},
    "tracking": {"report_to": ["tensorboard"]},
}


def scalars(file: Path) -> Iterator[tuple[int, str, float]]:
    """Yield (step, tag, value) of an event file: records of length, checksum, message, checksum."""
    content, at = file.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = Event.FromString(content[at + 12 : at + 12 + length])
        yield from ((event.step, value.tag, value.simple_value) for value in event.summary.value)
        at += length + 16


def test_tensorboard_gets_every_step_and_every_node(tmp_path: Path) -> None:
    folder = run(parse_run_spec(SPEC), tmp_path).folder
    (file,) = (folder / "tracking").rglob("events.out.tfevents.*")
    written = list(scalars(file))
    for line in journal.read(folder / "metrics.jsonl"):
        found = {tag: value for step, tag, value in written if step == line["step"]}
        for name in ("rollout/reward_mean", "train/grad_norm/n1", "train/grad_norm/n2"):
            (value,) = (value for tag, value in found.items() if tag.endswith(name))
            assert value == pytest.approx(line[name], rel=1e-6)
