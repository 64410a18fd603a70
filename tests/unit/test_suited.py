"""What a base decides where a spec says nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from letter_base import write_letter_base
from safetensors.numpy import save_file

from neuromas.base.suited import BaseChoice, suit_spec
from neuromas.errors import SpecError
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec


@pytest.fixture
def base(tmp_path: Path) -> Path:
    names = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj", "mlp.router")
    layers = {f"model.layers.0.{name}.weight": np.zeros((4, 4), np.float32) for name in names}
    folder = write_letter_base(tmp_path / "base", config={"max_position_embeddings": 384})
    save_file({**layers, "lm_head.weight": np.zeros((4, 4), np.float32)}, folder / "model.safetensors")
    return folder


def spec(base: str, **sections: object) -> RunSpec:
    return parse_run_spec({"base": base, "topology": {"chain": 1}, "task": {"type": "chain", "hops": 3}, **sections})


def test_a_real_base_gets_sizes_and_rates_that_suit_it(base: Path) -> None:
    suited = suit_spec(spec(str(base)))
    assert suited.choices == (
        BaseChoice("adapter.targets", ("down_proj", "gate_proj", "o_proj", "q_proj")),
        BaseChoice("adapter.rank", 8),
        BaseChoice("sampling.max_tokens", 32),
        BaseChoice("training.learning_rate", 5e-4),
        BaseChoice("engine.max_model_len", 384),
    )
    decided = suited.spec
    assert (decided.adapter.served_rank, decided.training.learning_rate, decided.engine.max_model_len) == (8, 5e-4, 384)
    assert suit_spec(decided) == suit_spec(parse_run_spec(decided.model_dump(mode="json")))
    assert suit_spec(decided).choices == ()


def test_what_a_spec_sets_stays(base: Path) -> None:
    given = {"adapter": {"rank": 1}, "sampling": {"max_tokens": 8}, "training": {"learning_rate": 1e-2}}
    suited = suit_spec(spec(str(base), **given))
    assert [choice.setting for choice in suited.choices] == [
        "adapter.targets",
        "engine.max_model_len",
    ]
    assert (suited.spec.adapter.served_rank, suited.spec.sampling.max_tokens) == (1, 8)


def test_the_tiny_base_decides_nothing() -> None:
    given = spec("tiny")
    assert suit_spec(given).spec == given


def test_a_base_that_is_not_there_is_left_to_the_check(tmp_path: Path) -> None:
    given = spec(str(tmp_path / "nowhere"))
    assert suit_spec(given).spec == given


def test_worked_examples_come_from_the_training_questions_of_every_level(base: Path) -> None:
    given = spec(str(base), prompt={"drawn_demonstrations": 2})
    prompt = suit_spec(given).spec.prompt
    assert prompt.drawn_demonstrations == 0
    assert [worked.level for worked in prompt.demonstrations] == [1, 1, 2, 2, 3, 3]
    assert len({worked.question for worked in prompt.demonstrations}) == 6
    assert suit_spec(given).spec.prompt == prompt


def test_worked_examples_of_a_file_are_its_training_questions(base: Path, tmp_path: Path) -> None:
    for split, terms in (("train", (1, 2)), ("test", (3, 4))):
        rows = [json.dumps({"question": f"{term} + 5", "answer": str(term + 5)}) for term in terms]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    task = {"type": "file", "train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}
    prompt = suit_spec(spec(str(base), task=task, prompt={"drawn_demonstrations": 2})).spec.prompt
    assert sorted((worked.question, worked.answer) for worked in prompt.demonstrations) == [
        ("1 + 5", "6"),
        ("2 + 5", "7"),
    ]
    with pytest.raises(SpecError, match=r"got 3, but the training questions hold 2; ask for fewer"):
        suit_spec(spec(str(base), task=task, prompt={"drawn_demonstrations": 3}))


def test_a_base_decides_the_sizes_of_the_adapters_of_every_node_group(base: Path) -> None:
    groups = {"ranked": {"nodes": ["n1"], "adapter": {"rank": 3}}, "rest": {"nodes": ["n2"], "adapter": {}}}
    suited = suit_spec(spec(str(base), topology={"chain": 3}, node_groups=groups))
    names = ("down_proj", "gate_proj", "o_proj", "q_proj")
    assert [choice for choice in suited.choices if "adapter" in choice.setting] == [
        BaseChoice("adapter.targets", names),
        BaseChoice("adapter.rank", 8),
        BaseChoice("node_groups.ranked.adapter.targets", names),
        BaseChoice("node_groups.rest.adapter.targets", names),
        BaseChoice("node_groups.rest.adapter.rank", 8),
    ]
    sections = suited.spec.adapters.sections
    assert {group: section.served_rank for group, section in sections.items()} == {"": 8, "ranked": 3, "rest": 8}
    assert {section.targets for section in sections.values()} == {names}
