"""Counting what arms spend."""

from neuromas.growth.ledger import Ledger, Spending

GROWN = Spending(steps=30, rollouts=5760, calls=17280, prompt_tokens=400_000, generated_tokens=60_000)
PARENT = Spending(steps=10, rollouts=1920, calls=5760, prompt_tokens=130_000, generated_tokens=20_000, check_calls=384)


def test_spendings_add_field_by_field() -> None:
    total = GROWN + PARENT
    assert total == Spending(40, 7680, 23040, 530_000, 80_000, 384)
    assert total.tokens == 610_000


def test_totals_per_arm_and_of_all_arms() -> None:
    ledger = Ledger().add("grown", "stage-0", 3, GROWN).add("parent", "stage-1-parent", 3, PARENT)
    ledger = ledger.add("grown", "stage-1", 5, PARENT)
    assert ledger.arms == ("grown", "parent")
    assert ledger.total("grown").rollouts == 7680
    assert ledger.total("parent") == PARENT
    assert ledger.total().rollouts == 9600
    assert ledger.total("nobody") == Spending()


def test_a_ledger_is_never_changed_in_place() -> None:
    empty = Ledger()
    empty.add("grown", "stage-0", 3, GROWN)
    assert empty.entries == ()


def test_the_document_names_arm_stage_and_nodes() -> None:
    assert Ledger().add("grown", "stage-0", 3, Spending(steps=1, rollouts=8)).to_document() == [
        {
            "arm": "grown",
            "stage": "stage-0",
            "nodes": 3,
            "steps": 1,
            "rollouts": 8,
            "calls": 0,
            "prompt_tokens": 0,
            "generated_tokens": 0,
            "check_calls": 0,
        }
    ]
