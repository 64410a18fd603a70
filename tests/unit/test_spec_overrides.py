import pytest

from neuromas.errors import SpecError
from neuromas.spec.overrides import apply_overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("1e-3", 0.001),
        ("true", True),
        ('"10"', "10"),
        ("[3, 5, 7]", [3, 5, 7]),
        ('{type = "tree", depth = 3}', {"type": "tree", "depth": 3}),
        ("null", None),
        ("org/model-7b", "org/model-7b"),
        ("a = b", "a = b"),
        ("1\nother = 2", "1\nother = 2"),
        ("", ""),
    ],
)
def test_values_are_toml_and_otherwise_text(text: str, value: object) -> None:
    assert apply_overrides({}, [f"key={text}"]) == {"key": value}


def test_tables_on_the_way_are_made_and_the_document_is_left_alone() -> None:
    document = {"training": {"steps": 80}}
    assert apply_overrides(document, ["training.entropy.start=0.1", "training.steps=10"]) == {
        "training": {"steps": 10, "entropy": {"start": 0.1}}
    }
    assert document == {"training": {"steps": 80}}


def test_entries_of_lists_are_counted_from_0() -> None:
    document = {"growth": {"plans": [{"inherit": {}}], "levels": [3, 5]}}
    changed = apply_overrides(document, ["growth.plans[0].inherit.new=copy", "growth.levels[1]=7"])
    assert changed == {"growth": {"plans": [{"inherit": {"new": "copy"}}], "levels": [3, 7]}}


def test_another_form_of_topology_replaces_the_one_there_was() -> None:
    document = {"topology": {"nodes": [{"id": "a"}], "edges": [], "output": "a", "name": "kept"}}
    assert apply_overrides(document, ["topology.chain=7"]) == {"topology": {"chain": 7, "name": "kept"}}
    assert apply_overrides({"layers": [2], "name": "kept"}, ["star=3"]) == {"star": 3, "name": "kept"}


def test_all_faults_come_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        apply_overrides({"a": [1], "b": 2}, ["steps", "a[3]=1", "b.c=1", "a.b=1", "b[0]=1", "=3", "a..b=1"])
    assert [fault.path for fault in caught.value.faults] == ["", "a[3]", "b.c", "a.b", "b[0]", "", ""]
    assert caught.value.faults[1].message == "got index 3; a has 1 entries, counted from 0"
