"""Lineage entries and their drawing."""

import json

import pytest

from neuromas.errors import SpecError
from neuromas.growth.lineage import Descent, describe_plan, draw_lineage
from neuromas.spec.growth import AppendSpec, GraftSpec, InheritanceSpec, PlanSpec

APPEND = PlanSpec(edits=(AppendSpec(edit="append"),))
GRAFT = PlanSpec(
    edits=(GraftSpec(edit="graft", modules=("other",)),),
    inherit=InheritanceSpec(new="copy", noise=0.1, old="freeze", freeze_steps=40, optimizer="keep"),
)
ENTRIES = [
    Descent("stage-0", nodes=3, level=3, accuracy=0.9984, steps=25),
    Descent("stage-1-trial-0", 7, 5, "ckpt/a", "stage-0", GRAFT, {"n1": "n1"}, ("other",), kept=False, steps=30),
    Descent("stage-1-parent-30", 3, 5, "ckpt/a", "stage-0", steps=30),
    Descent("stage-1-trial-1", 5, 5, "ckpt/a", "stage-0", APPEND, {"n1": "n1"}, steps=30),
    Descent("stage-1", 5, 5, "ckpt/b", "stage-1-trial-1", accuracy=0.97, steps=10),
]


def test_a_plan_is_described_on_one_line() -> None:
    assert describe_plan(APPEND) == "append(layers=(1, 1)) + fresh"
    assert describe_plan(GRAFT) == (
        "graft(siblings_from=fresh, modules=('other',), arrange=subtrees) + copy, old frozen 40 steps, moments kept"
    )


def test_the_tree_shows_children_below_their_parents_and_what_was_rolled_back() -> None:
    assert draw_lineage(ENTRIES).splitlines() == [
        "stage-0: 3 nodes, level 3, 25 steps, accuracy 0.998",
        f"├─ stage-1-trial-0: 7 nodes, level 5, 30 steps, {describe_plan(GRAFT)}, with other [rolled back]",
        "├─ stage-1-parent-30: 3 nodes, level 5, 30 steps",
        "└─ stage-1-trial-1: 5 nodes, level 5, 30 steps, append(layers=(1, 1)) + fresh",
        "   └─ stage-1: 5 nodes, level 5, 10 steps, accuracy 0.970",
    ]


def test_a_graph_grown_from_another_run_names_its_checkpoint() -> None:
    entry = Descent("stage-0", nodes=5, level=None, parent="runs/old/checkpoints/0-000080", plan=APPEND)
    assert draw_lineage([entry]) == (
        "stage-0: 5 nodes, 0 steps, append(layers=(1, 1)) + fresh, from runs/old/checkpoints/0-000080"
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.stage)
def test_entries_survive_json(entry: Descent) -> None:
    read = Descent.from_document(json.loads(json.dumps(entry.to_document())))
    assert read.to_document() == entry.to_document()
    assert read.plan == entry.plan


def test_a_damaged_entry_is_refused() -> None:
    with pytest.raises(SpecError, match="lineage"):
        Descent.from_document({"stage": "stage-0"})
