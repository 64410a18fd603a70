"""Settings: each says what it does, and those that are gone are read with their defaults and refused otherwise."""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from neuromas.errors import SpecError
from neuromas.schema.model import SpecModel
from neuromas.spec.parse import parse_run_spec

SMALLEST = {"topology": {"chain": 3}, "task": {"type": "chain", "hops": 7}}
GROWTH = {"levels": [6, 7], "trial": {}}
STORED: dict[str, Any] = {
    "training": {"baseline_group": "prompt", "rows_per_forward": 4096, "baseline_decay": 0.9},
    "growth": {"levels": [6, 7], "trial": {"min_gain": 0.0}},
    "engine": {"max_adapters": None},
    "checkpoint": {"keep_best": 1},
}
"""What the resolved spec of an earlier run holds of them."""
ASKED_FOR = [
    ({"training": {"baseline_group": "prompt_node"}}, "training.baseline_group", "a baseline covers the rollouts of"),
    ({"training": {"rows_per_forward": 32}}, "training.rows_per_forward", "tokens_per_forward bounds a forward pass"),
    ({"training": {"baseline_decay": 0.5}}, "training.baseline_decay", 'the running mean of "reinforce" keeps 0.9'),
    ({"growth": {**GROWTH, "trial": {"min_gain": 0.1}}}, "growth.trial.min_gain", "by its p-value alone, max_p_value"),
    ({"engine": {"max_adapters": 4}}, "engine.max_adapters", "a slot for each adapter of the run's largest graph"),
    ({"checkpoint": {"keep_best": 0}}, "checkpoint.keep_best", "the best checkpoint of each stage is kept"),
]


def sections(model: type[SpecModel] = SpecModel) -> Iterator[type[SpecModel]]:
    for section in model.__subclasses__():
        yield section
        yield from sections(section)


def settings() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting that is no section and tells none of several kinds apart, by its class and name."""
    for section in sections():
        if section.__module__.startswith(("neuromas.spec.", "neuromas.tasks.", "neuromas.adapters.")):
            for name, field in section.model_fields.items():
                if name not in ("type", "edit") and not holds_sections(field.annotation):
                    yield f"{section.__name__}.{name}", field


def holds_sections(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, SpecModel):
        return True
    return any(map(holds_sections, get_args(annotation)))


SETTINGS = sorted(settings(), key=itemgetter(0))


@pytest.mark.parametrize(("name", "field"), SETTINGS, ids=[name for name, _ in SETTINGS])
def test_a_setting_says_what_it_does(name: str, field: FieldInfo) -> None:
    assert field.description, name


def test_the_spec_of_an_earlier_run_is_the_same_without_them() -> None:
    assert parse_run_spec({**SMALLEST, **STORED}) == parse_run_spec({**SMALLEST, "growth": GROWTH})


@pytest.mark.parametrize(("changes", "path", "instead"), ASKED_FOR, ids=[path for _, path, _ in ASKED_FOR])
def test_what_asked_for_something_is_refused_with_what_holds_instead(
    changes: dict[str, Any], path: str, instead: str
) -> None:
    with pytest.raises(SpecError) as caught:
        parse_run_spec({**SMALLEST, **changes})
    (fault,) = caught.value.faults
    assert fault.path == path
    assert fault.message.startswith("is gone: ")
    assert instead in fault.message


def test_all_that_are_gone_are_told_at_once_beside_other_faults() -> None:
    gone = {"baseline_decay": 0.5, "rows_per_forward": 32}
    with pytest.raises(SpecError) as caught:
        parse_run_spec({**SMALLEST, "training": gone, "engine": {"block_size": 40}})
    assert {fault.path for fault in caught.value.faults} == {
        "training.baseline_decay",
        "training.rows_per_forward",
        "engine.block_size",
    }


def test_the_tables_above_name_every_setting_that_is_gone() -> None:
    gone = {key for section in sections() for key in section.retired}
    assert {path.rpartition(".")[2] for _, path, _ in ASKED_FOR} == gone
