"""Data as users have it: what is read, and what is refused with its line."""

import json
import pickle
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from neuromas.errors import TaskError
from neuromas.tasks.base import Example, Score
from neuromas.tasks.file import FileSpec, FileTask
from neuromas.tasks.judge import judge
from neuromas.tasks.rows import read_rows
from neuromas.tasks.template import names_in


def task(train: Path | str, test: Path | str | None = None, **settings: object) -> FileTask:
    document = {"type": "file", "train": str(train), "test": str(test or train), **settings}
    return FileTask(FileSpec.model_validate(document))


def one(folder: Path, text: str | bytes, name: str = "a.jsonl", **settings: object) -> Example:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return task(path, **settings).example("test", 0)


def row(**fields: object) -> str:
    return json.dumps({"question": "q", "answer": "1"} | fields)


def test_what_editors_leave_in_a_file_is_read(tmp_path: Path) -> None:
    for text in (b"\xef\xbb\xbf" + row().encode(), f"{row()}\r\n{row()}\r\n".encode(), f"\n\n{row()}".encode()):
        assert one(tmp_path, text) == Example(one(tmp_path, text).id, "q", "1")
    assert one(tmp_path, row(question="a\u2028b\x85c")).prompt == "a\u2028b\x85c"


def test_numbers_stay_as_they_were_written(tmp_path: Path) -> None:
    for written, read in (("0.00001", "0.00001"), ("1e-5", "0.00001"), ("12000000000000000000", "12000000000000000000"),
                          ("1.2e19", "12000000000000000000"), ("0.1", "0.1"), ("-3", "-3")):  # fmt: skip
        text = f'{{"question": "q", "answer": {written}}}'
        assert one(tmp_path, text, verifier="odd.code:check").answer == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "smile \\ud83d", "answer": "1"}', "line 1: holds half of a surrogate pair"),
        ('{"question": "smile \\ud83d\\ude00", "answer": {}}', r"line 1: got {} for the key 'answer'"),
        ('{"question": "q", "answer": ' + "7" * 5000 + "}", "line 1: not valid JSON: .*digits"),
        ('{"question": "q", "answer": 1e99999}', "got the number '1e99999'; allowed are exponents"),
        ('{"question": "q", "answer": NaN}', "line 1: not valid JSON: got NaN, expected a finite number"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 1: not valid JSON: nested too deep"),
        (row(answer=True), "line 1: got True for the key 'answer'"),
        (row(answer=None), "line 1: got None for the key 'answer'"),
        (row(answer=[]), r"line 1: got \[\] for the key 'answer'"),
        (row(answer=["1", ["2"]]), r"line 1: got \['2'\] for the key 'answer'"),
        (row(question=[{"role": "robot", "content": "x"}]), "expected text or chat messages with role"),
        (row(question=[{"role": "assistant", "content": "x"}]), "must end with one of the user's"),
        (row(question=[]), "must end with one of the user's"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        one(tmp_path, text)


def test_any_of_several_right_answers_is_right(tmp_path: Path) -> None:
    made = task(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text(row(answer=["4", "Four"]))
    example = made.example("train", 3)
    assert [made.score(example, text) for text in ("4", "four.", "5", "")] == [1.0, 1.0, 0.0, 0.0]


def test_chat_messages_become_one_question(tmp_path: Path) -> None:
    def turns(*turns: tuple[str, str]) -> str:
        return one(tmp_path, row(prompt=[{"role": r, "content": c} for r, c in turns]), question_key="prompt").prompt

    assert turns(("user", "1+1?")) == "1+1?"
    assert turns(("system", "Be brief."), ("user", "1+1?")) == "Be brief.\n\n1+1?"
    assert turns(("user", "Hi"), ("assistant", "Yes?"), ("user", "1+1?")) == "User: Hi\n\nAssistant: Yes?\n\nUser: 1+1?"


def test_choices_are_named_by_number_by_label_or_by_text(tmp_path: Path) -> None:
    shape = {"verifier": "choice", "choices_key": "choices", "question_template": "{question}\n{choices}"}
    texts = ["red", "blue", "green"]
    for answer in (1, "B", "blue", "(B)"):
        example = one(tmp_path, row(answer=answer, choices=texts), **shape)
        assert (example.answer, example.prompt) == ("B", "q\n(A) red\n(B) blue\n(C) green")
        assert example.info == {"choices": texts}
    labelled = {"text": texts, "label": ["1", "2", "3"]}
    assert one(tmp_path, row(answer="2", choices=labelled), **shape).answer == "B"
    for answer in (3, -1, "D"):
        with pytest.raises(TaskError, match=r"line 1: got the answer .*; the row has 3 choices"):
            one(tmp_path, row(answer=answer, choices=texts), **shape)


def test_templates_take_plain_values_alone(tmp_path: Path) -> None:
    text = row(question="2 {x}", n=3)
    shape = {"question_template": "{{so}} {question} by {n}", "answer_template": "#{answer}"}
    example = one(tmp_path, text, **shape)
    assert (example.prompt, example.answer) == ("{so} 2 {x} by 3", "#1")
    with pytest.raises(TaskError, match="line 1: no key 'missing', which a template asks for"):
        one(tmp_path, text, question_template="{missing}")
    for bad in ("{question.__class__}", "{question[0]}", "{n:>999999999}", "{n!r}", "{}", "{0}", "{"):
        with pytest.raises(ValueError):
            names_in(bad)
        with pytest.raises(ValidationError):
            task("a", question_template=bad)


def test_csv_tsv_and_parquet(tmp_path: Path) -> None:
    commas = '\ufeffquestion,answer,level\r\n"a, ""b""\nc",1,2\r\nd,2,2\r\n'
    example = one(tmp_path, commas, "a.csv", level_key="level")
    assert (example.prompt, example.answer, example.level) == ('a, "b"\nc', "1", 2)
    assert one(tmp_path, "question\tanswer\nx, y\t1\n", "a.tsv").prompt == "x, y"
    with pytest.raises(TaskError, match="line 2: has other columns than the first line"):
        one(tmp_path, "question,answer\nx\n", "b.csv")
    with pytest.raises(TaskError, match="cannot be read"):
        one(tmp_path, b"PAR1 but no more", "a.parquet")


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.csv", "gone.parquet"])
def test_a_file_that_is_not_there_is_named_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(TaskError) as raised:
        list(read_rows(tmp_path / name))
    assert str(raised.value) == f"{tmp_path / name} cannot be read: No such file or directory"


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": [0.5, 2.0], "level": 3}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    example = task(tmp_path / "a.parquet", verifier="number", level_key="level").example("test", 0)
    assert (example.answer, example.level, example.info) == ("1/2", 3, {"answers": ["1/2", "2"]})


def test_a_verifier_of_the_users_reads_the_whole_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_check.py").write_text(
        "def check(example, text):\n    return len(set(text.split()) & set(example.info['words'])) / 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a.jsonl").write_text(row(words=["a", "b"]))
    made = task(tmp_path / "a.jsonl", verifier="own_check:check")
    assert judge(made, made.example("test", 0), "b c") == Score(0.5)
    assert made.scoring_timeout_s == 10.0
    assert task("a", verifier="own_check:check", verifier_timeout_s=0.0).scoring_timeout_s is None
    assert made.spec.code() == {"verifier": "own_check:check"}
    with pytest.raises(TaskError, match=r"task\.verifier: own_check has no function missing"):
        task(tmp_path / "a.jsonl", verifier="own_check:missing").score(made.example("test", 0), "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"verifier": "nubmer"}, "allowed are exact, number, choice, label, math, or code as package.module:function"),
        ({"verifier": "os:system.x"}, "allowed are exact"),
        ({"verifier_timeout_s": 3.0}, "needs a verifier of yours"),
        ({"question_key": "q", "question_template": "{a}"}, "does nothing beside question_template"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        task("a", **settings)


def test_evaluation_needs_no_training_file_and_scoring_no_file(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(row(level=2))
    made = task(tmp_path / "gone.jsonl", tmp_path / "test.jsonl", level_key="level")
    assert (made.levels, made.size("test"), made.example("test", 0).answer) == ((2,), 1, "1")
    scorer = pickle.loads(pickle.dumps(task("gone", "gone too")))
    assert scorer.score(Example("a", "q", "1"), "1") == 1.0
    assert len(pickle.dumps(made)) < 1000
    with pytest.raises(TaskError, match=r"task\.train: .*gone\.jsonl cannot be read"):
        made.example("train", 0)
