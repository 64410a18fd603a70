"""BIG-bench object counting beside what costs as much: questions, arms that can be made, and the table."""

import json
from pathlib import Path

import pytest

import neuromas as nm
from benchmarks.counting_arms import graph_spec, most_frequent, numbers, read_rows, worked_apart, write_data
from benchmarks.counting_compare import ARMS, table
from neuromas.studies.compare import make_group

THINGS = ("a drum", "two flutes", "an oboe", "three violins", "nine pianos")
COUNTS = (1, 2, 1, 3, 9)


def bigbench(folder: Path) -> Path:
    """Write questions that list one to five things, in every turn of the list, and one that lists too many."""
    folder.mkdir()
    rows = []
    for turn in range(5):
        for size in range(1, 6):
            places = [(turn + place) % 5 for place in range(size)]
            listed = ", ".join(THINGS[place] for place in places[:-1])
            asked = f"{listed}, and {THINGS[places[-1]]}" if listed else THINGS[places[-1]]
            rows.append((asked, sum(COUNTS[place] for place in places), 3 if size <= 3 else 5))
    rows.append((", ".join([THINGS[0]] * 7), 7, 7))
    for split, number in (("train", 0), ("test", 1)):
        text = "".join(
            json.dumps(
                {"question": f"I have {asked}. How many things do I have?", "answer": str(answer), "level": level}
            )
            + "\n"
            for asked, answer, level in rows[number::2]
        )
        (folder / f"object_counting.{split}.jsonl").write_text(text)
    return folder


def test_numbers_are_read_from_the_things_that_are_listed() -> None:
    assert numbers("I have two heads of broccoli, a garlic, and an onion. How many vegetables do I have?") == [2, 1, 1]
    assert numbers("I have some garlic, and an onion. How many vegetables do I have?") == []
    assert numbers("How many?") == []


def test_worked_examples_say_the_numbers_of_long_lists_and_are_not_trained_on(tmp_path: Path) -> None:
    rows = read_rows(bigbench(tmp_path / "data") / "object_counting.train.jsonl")
    worked, train = worked_apart(rows)
    assert {row["level"] for row in rows} == {3, 5}
    assert len(train) == len(rows) - len(worked)
    assert {len(row["answer"].split("+")) for row in worked} == {3, 5}
    for row in worked:
        listed, total = row["answer"].split("=")
        assert sum(map(int, listed.split("+"))) == int(total)
        assert row["question"] not in [other["question"] for other in train]


def test_the_guess_is_the_answer_that_training_has_most_often(tmp_path: Path) -> None:
    write_data(bigbench(tmp_path / "data"), tmp_path)
    for split, answers in (("train", (4, 4, 2)), ("test", (2, 4, 3, 4, 6, 4))):
        rows = [{"question": f"question {place}", "answer": answer} for place, answer in enumerate(answers)]
        (tmp_path / "counting" / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    answer, right = most_frequent(tmp_path)
    assert answer == "4"
    assert right in (2 / 5, 3 / 5)  # one of the six is for decisions


@pytest.mark.parametrize(("nodes", "more"), [(2, ()), (3, ("debate", "debate-untrained"))])
def test_every_arm_can_be_made_from_the_graph_at_the_same_trained_numbers(
    tmp_path: Path, nodes: int, more: tuple[str, ...]
) -> None:
    worked = write_data(bigbench(tmp_path / "data"), tmp_path)
    spec = nm.parse_run_spec(graph_spec(tmp_path, worked, nodes))
    jobs = make_group(spec, (*ARMS, *more), (0,)).jobs
    assert {job.adapter.rank * len(job.topology.adapters) for job in jobs} == {8 * nodes}


def test_the_table_says_what_the_comparison_found() -> None:
    def share(value: float) -> dict[str, object]:
        return {"value": value, "examples": 75}

    costs = {"trainable_parameters": 10, "rollouts": 480, "calls": 960, "tokens": 9000, "calls_per_answer": 2}
    arms = [
        {"title": "trained graph", "runs": [{"accuracy": {"greedy": share(0.8), "sampled": share(0.6)}}], "against": {}}
        | costs
        | {"seconds": 90.0},
        {
            "title": "vote",
            "runs": [{"accuracy": {"sampled": share(0.4)}}],
            "against": {"sampled": {"gain": -0.2, "p_value": 0.01}},
        }
        | costs
        | {"seconds": 0.0},
    ]
    _, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table(arms, ("4", 0.25)).splitlines())
    spent = ["10", "480", "960", "9,000", "2"]
    assert rows[0][:2] == ["always 4", "25.0"]
    assert rows[1] == ["trained graph", "80.0", "69.6 to 87.5", "60.0", "-", *spent, "1.5"]
    assert rows[2] == ["vote", "-", "29.7 to 51.3", "40.0", "-20.0, 0.01", *spent, "-"]
