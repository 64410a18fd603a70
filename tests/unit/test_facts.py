import pytest

from neuromas.tasks.facts import Fact, Rule, derive, describe_fact, parse_fact, score_fact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A= 7", Fact("A", 7)),
        ("so A= 7", Fact("A", 7)),
        ("A= 7 .", Fact("A", 7)),
        ("so A= 7 .", Fact("A", 7)),
        ("A= 7 so B= 3 .", Fact("B", 3)),
        ("The second hop gives B = 12.", Fact("B", 12)),
        ("E=-3", Fact("E", -3)),
        ("", None),
        ("A=", None),
        ("7 .", None),
        ("A= x", None),
        ("BA= 7", None),
        ("A= 7.5", None),
        ("a= 7", None),
    ],
)
def test_the_last_well_formed_fact_is_read(text: str, expected: Fact | None) -> None:
    assert parse_fact(text) == expected


def test_a_stated_value_replaces_what_later_rules_read_but_not_what_its_own_rule_gives() -> None:
    rules = [Rule("A", (), lambda: 2), Rule("B", ("A",), lambda a: 10 * a), Rule("C", ("A", "B"), lambda a, b: a + b)]
    assert derive(rules) == {"A": 2, "B": 20, "C": 22}
    assert derive(rules, {"A": 5}) == {"A": 2, "B": 50, "C": 55}
    assert derive(rules, {"B": 1}) == {"A": 2, "B": 20, "C": 3}


def test_a_score_needs_the_asked_name_and_the_right_value() -> None:
    assert score_fact("E= 6", "so E= 6 .") == 1.0
    assert score_fact("E= 6", "E= 7") == 0.0
    assert score_fact("E= 6", "D= 6") == 0.0
    assert score_fact("E= 6", "E= 6 D= 6") == 0.0
    assert score_fact("E= 6", "6") == 0.0


def test_a_description_names_the_fact_and_judges_it() -> None:
    truth = {"A": 1, "B": 2}
    right, wrong, unknown = (describe_fact(truth, text) for text in ("so A= 1", "B= 1 .", "Z= 1"))
    assert (right.label, right.correct) == ("A", True)
    assert (wrong.label, wrong.correct) == ("B", False)
    assert (unknown.label, unknown.correct) == ("Z", False)
    assert describe_fact(truth, "so so .") is None
