"""How long a run takes: counted by hand, and beside what runs were seen to take."""

from __future__ import annotations

import json
import shutil
import struct
from math import prod
from pathlib import Path

import pytest

from neuromas.base.resolve import resolve_base
from neuromas.base.sizes import Dimensions
from neuromas.base.suited import suit_spec
from neuromas.checkpoints.trained import find_trained
from neuromas.run.expected_time import expected_time, operations_per_s
from neuromas.run.load import graph_load, shared_tokens
from neuromas.run.preflight import Preflight, check_run
from neuromas.spec.load import load_spec
from neuromas.spec.parse import parse_run_spec

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE = 9e10
SMOLLM2 = Dimensions(
    parameters=134_515_008, layer_weights=106_168_320, features=305_280, hidden=576, layers=30, vocabulary=49_152
)


def checked(document: dict[str, object]) -> Preflight:
    return check_run(suit_spec(parse_run_spec(document)).spec, find_trained)


def chain(**others: object) -> dict[str, object]:
    return {
        "topology": {"chain": 2},
        "task": {"type": "chain", "hops": 2},
        "sampling": {"max_tokens": 4},
        "training": {"steps": 3, "prompts_per_step": 5, "group_size": 8, "forward": "packed"},
        **others,
    }


@pytest.mark.parametrize(
    ("engine", "read", "answered"),
    [
        # Once: the 23 and 26 tokens of a question before the first message. Each rollout: a message of 4 and ">".
        ({"type": "transformers"}, 23 + 26 + 8 * 5, 23 + 31),
        ({"type": "vllm", "block_size": 32}, 8 * (25 + 33), 25 + 33),  # no block is shared whole
    ],
    ids=["to the token", "in whole blocks"],
)
def test_what_prompts_share_is_computed_once(engine: dict[str, object], read: int, answered: int) -> None:
    # <bos>, 20 words, "@ L1 N1 >"; the second node reads "| L1 N1 :" and a message, too. Questions share 2 tokens.
    preflight = checked(chain(engine=engine))
    load = graph_load(preflight, SMOLLM2, preflight.graphs[0], None)
    layers, said = SMOLLM2.layer_weights, SMOLLM2.layer_weights + 576 * 49_152
    assert (load.sampling.calls, load.sampling.operations) == (16, 2 * (read * layers + 2 * 8 * 4 * said))
    assert (load.answer.calls, load.answer.operations) == (2, 2 * (answered * layers + 2 * 4 * said))
    assert load.update.operations == 4 * ((25 + 28 + 8 * 5) * layers + 2 * 8 * 4 * said)


def test_a_context_s_prompt_is_computed_once() -> None:
    training = {"steps": 3, "prompts_per_step": 5, "group_size": 8, "credit": "counterfactual"}
    preflight = checked(chain(engine={"type": "transformers"}, training=training))
    load = graph_load(preflight, SMOLLM2, preflight.graphs[0], None)
    layers, said = SMOLLM2.layer_weights, SMOLLM2.layer_weights + 576 * 49_152
    # The first node is asked 8 times; the second 15 times, of which 7 with the prompt that its anchor has read.
    read = 23 + 26 + 8 * 5
    assert (load.sampling.calls, load.sampling.operations) == (23, 2 * (read * layers + 23 * 4 * said))
    assert load.update.operations == 4 * ((25 + 33) * layers + 2 * 8 * 4 * said)


def test_a_learner_that_packs_nothing_reads_every_prompt() -> None:
    training = {"steps": 3, "prompts_per_step": 5, "group_size": 8, "forward": "padded"}
    preflight = checked(chain(training=training))
    load = graph_load(preflight, SMOLLM2, preflight.graphs[0], None)
    layers, said = SMOLLM2.layer_weights, SMOLLM2.layer_weights + 576 * 49_152
    assert load.update.operations == 4 * (8 * (25 + 33) * layers + 2 * 8 * 4 * said)


def test_shared_tokens() -> None:
    assert shared_tokens([(1, 2, 3), (1, 2, 4), (1, 2)]) == 2
    assert shared_tokens([(1,), (2,)]) == 0
    assert shared_tokens([(1, 2), (1, 2)]) == 2


def halve_weights(folder: Path) -> None:
    """Write the weight file of a base as bfloat16: the same shapes in half the bytes."""
    file = folder / "model.safetensors"
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    end, halved = 0, {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = end, end + 2 * prod(entry["shape"])
            halved[name] = {"dtype": "BF16", "shape": entry["shape"], "data_offsets": [begin, end]}
    written = json.dumps(halved).encode()
    file.write_bytes(struct.pack("<Q", len(written)) + written + bytes(end))


def test_weights_are_counted_by_their_shapes_and_not_by_their_bytes(tmp_path: Path) -> None:
    base = tmp_path / "half"
    shutil.copytree(resolve_base("tiny"), base)
    whole = expected_time(checked(chain()), RATE)
    halve_weights(base)
    as_tiny = {"adapter": {"rank": 1}, "prompt": {"renderer": "compact"}}
    half = expected_time(checked(chain(base=str(base), **as_tiny)), RATE)
    assert whole is not None
    assert half == whole


def test_the_time_is_within_a_factor_of_two_of_what_was_seen() -> None:
    found = expected_time(check_run(load_spec(EXAMPLES / "quickstart.toml"), find_trained), RATE)
    assert found is not None
    assert 112 / 2 < found.seconds < 2 * 112  # on an idle machine whose threads have that rate


def test_stages_of_a_growing_run_share_its_steps() -> None:
    found = expected_time(check_run(load_spec(EXAMPLES / "growth.toml"), find_trained), RATE)
    assert found is not None
    assert (found.steps, found.is_most) == (60, True)
    assert found.text.startswith("at most about ")


def test_gpus_are_not_estimated() -> None:
    preflight = checked(chain(runtime={"gpus_per_learner": 1, "gpus_per_rollout_worker": 1}))
    assert expected_time(preflight) is None


def test_the_rate_is_timed_here() -> None:
    found = expected_time(checked(chain()))
    assert found is not None
    assert found.operations_per_s == operations_per_s() > 0
    assert f"{found.operations_per_s / 1e9:.0f} GFLOP/s" in found.counted_for
