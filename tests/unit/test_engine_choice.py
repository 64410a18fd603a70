"""Which engine "auto" is: by the base's size and what vLLM can run, for runs and for serving."""

import json
from pathlib import Path

import pytest
from letter_base import write_letter_base

from neuromas.base.resolve import read_base
from neuromas.checkpoints.trained import find_trained
from neuromas.engines.choice import engine_type
from neuromas.engines.setup import EngineSetup
from neuromas.run.preflight import check_run
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec


def spec(base: str = "tiny", **sections: object) -> RunSpec:
    return parse_run_spec({"base": base, "topology": {"chain": 1}, "task": {"type": "chain", "hops": 3}, **sections})


def write_base(folder: Path, numbers: int, head_dim: int) -> Path:
    """Write a base whose weight file tells of so many numbers; they take no room on the disk."""
    config = {"hidden_size": 2 * head_dim, "num_attention_heads": 2, "head_dim": head_dim}
    write_letter_base(folder, config=config)
    header = {"model.layers.0.q_proj.weight": {"dtype": "F32", "shape": [1, numbers], "data_offsets": [0, 4 * numbers]}}
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + 4 * numbers)
    return folder


@pytest.mark.parametrize(
    ("numbers", "head_dim", "sections", "runs", "serves"),
    [
        (9_999_999, 64, {}, "transformers", "vllm"),
        (10_000_000, 64, {}, "vllm", "vllm"),
        (10_000_000, 24, {}, "transformers", "transformers"),  # a head that vLLM has no kernel for on CPU
        (10_000_000, 24, {"runtime": {"gpus_per_rollout_worker": 1.0}}, "vllm", "vllm"),
        (9_999_999, 64, {"runtime": {"gpus_per_rollout_worker": 0.5}}, "vllm", "vllm"),
        (9_999_999, 64, {"engine": {"kv_cache_gib": 2.0}}, "vllm", "vllm"),
        (9_999_999, 64, {"engine": {"type": "vllm"}}, "vllm", "vllm"),
        (10_000_000, 64, {"engine": {"type": "transformers"}}, "transformers", "transformers"),
    ],
)
def test_the_engine_of_a_run_and_of_what_serves_its_graph(
    tmp_path: Path, numbers: int, head_dim: int, sections: dict[str, object], runs: str, serves: str
) -> None:
    folder = write_base(tmp_path / "base", numbers, head_dim)
    base = read_base(folder)
    asked = spec(str(folder), **sections)
    assert (engine_type(asked, base), engine_type(asked, base, serves=True)) == (runs, serves)
    found = (EngineSetup.of(asked, folder), EngineSetup.of(asked, folder, serves=True))
    assert tuple(setup.engine.type for setup in found) == (runs, serves)


def test_the_check_of_a_run_says_which_engine_it_gets() -> None:
    assert check_run(spec(), find_trained).engine == "transformers"
    assert check_run(spec(), find_trained, (), serves=True).engine == "vllm"
    assert check_run(spec(engine={"type": "vllm"}), find_trained).engine == "vllm"


def test_an_engine_that_nobody_decided_is_not_started() -> None:
    with pytest.raises(ValueError, match=r"engine\.type is 'auto'"):
        EngineSetup(Path("base"), EngineSpec(), 1, ())
