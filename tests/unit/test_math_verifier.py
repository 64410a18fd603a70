"""The verifier "math": the expression in a text; and whether two are equal, where math-verify is installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from neuromas.errors import TaskError
from neuromas.tasks.base import Task
from neuromas.tasks.registry import make_task, task_spec
from neuromas.tasks.verify import gold_math, read_math


def made(tmp_path: Path, right: str) -> Task:
    for split in ("train", "test"):
        (tmp_path / f"{split}.tsv").write_text(f"question\tanswer\n{split}?\t{right}\n")
    paths = {split: str(tmp_path / f"{split}.tsv") for split in ("train", "test")}
    return make_task(task_spec({"type": "file", "verifier": "math", **paths}), seed=0)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        (r"\boxed{\dfrac{1}{2}}", r"\frac{1}{2}"),
        (r"first $x$, then \boxed{ x + 1 }.", "x+1"),
        ("The answer is $2x$. I am sure of $y$", "2x"),
        (r"so \(a\), and at last \[ b^2 \]", "b^2"),
        ("we add\n1/2", "1/2"),
        ("#### 1,000", "1,000"),
        (r"$2 \pi r$", r"2\pi r"),
        (r"$\left( 1,\! 2 \right)$", "(1,2)"),
        (r"$\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"\boxed{\textbf{east}}", r"\text{east}"),
        ("", None),
        (r"\boxed{}", None),
        (" \n . ", None),
    ],
)
def test_the_expression_of_a_text_has_no_layout(text: str, expression: str | None) -> None:
    assert read_math(text) == expression


def test_the_right_answer_of_a_worked_solution_is_its_box() -> None:
    assert gold_math(r"Since $a = 1$ and $b = 2$, we get $\boxed{\frac12}$.") == r"\frac12"


def test_a_missing_package_is_named_with_the_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(TaskError, match=r"pip install 'neuromas\[math\]'"):
        made(tmp_path, "1")


if find_spec("math_verify") is not None:

    @pytest.mark.parametrize(
        ("right", "texts"),
        [
            (r"\frac{1}{2}", [r"\boxed{\frac12}", "0.5", "The answer is $1/2$.", r"$x = \frac{1}{2}$"]),
            ("3", ["3.0", "$x=3$", r"\boxed{3\text{ cm}}", r"\sqrt{9}", r"\boxed{3^\circ}"]),
            ("x^2+2x+1", ["(x+1)^2", r"\boxed{1+x^2+2x}"]),
            (r"\sqrt{2}", ["2^{1/2}", r"\frac{2}{\sqrt{2}}"]),
            ("(1,2)", [r"\left( 1, 2 \right)"]),
            (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", [r"$\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}$"]),
            (r"\text{east}", ["east", r"\mathrm{east}"]),
            (r"2 \pi r", [r"\boxed{r \cdot 2\pi}", r"2\pi\,r"]),
            (r"1,\!000", ["1000", "1,000", r"\boxed{1{,}000}"]),
            (r"\{1,2\}", [r"\boxed{1, 2}", r"\{2,1\}"]),
        ],
    )
    def test_equal_expressions_score_1(tmp_path: Path, right: str, texts: list[str]) -> None:
        task = made(tmp_path, right)
        example = task.example("test", 0)
        assert [text for text in (right, *texts) if task.score(example, text) != 1.0] == []
        described = task.describe(example, texts[0])
        assert described is not None
        assert described.correct

    @pytest.mark.parametrize(
        ("right", "texts"),
        [
            (r"\frac{1}{2}", ["2", "1/3", "", "$1/2$ or $1/3$", "0.5001"]),
            (
                "3",
                [
                    "3 or 4", "3, 4", r"\boxed{3\text{ or }4}", r"\boxed{\{3,4\}}", r"\boxed{3\pm 1}",
                    r"\boxed{\mathbb{R}}", r"\boxed{3=4}", r"\boxed{3\neq 4}", r"\boxed{x}", r"\boxed{[3,4]}",
                    r"\boxed{x\ge 3}", r"\boxed{3 \lor 4}", r"\boxed{}",
                ],
            ),
            ("x^2+2x+1", ["x^2+2x", "(x-1)^2"]),
            (r"\sqrt{2}", ["1.41", "2"]),
            ("(1,2)", ["(2,1)", "1"]),
            (r"\text{east}", ["west", r"\text{eats}"]),
        ],
    )  # fmt: skip
    def test_other_expressions_score_0(tmp_path: Path, right: str, texts: list[str]) -> None:
        task = made(tmp_path, right)
        example = task.example("test", 0)
        assert [text for text in texts if task.score(example, text) != 0.0] == []

    @pytest.mark.parametrize(
        "text",
        [
            "9^{9^{9^{9}}}",
            "10000!!!!",
            r"\prod_{k=1}^{10^9} k",
            "(x+y+z+w+1)^{9999}",
            "x^" * 100 + "2",
            "(" * 180 + "1" + ")" * 180,
            "1" * 5000,
            "__import__('os').abort()",
        ],
    )
    def test_what_has_no_end_scores_0_and_the_next_answer_is_read(tmp_path: Path, text: str) -> None:
        task = made(tmp_path, "2")
        example = task.example("test", 0)
        assert task.score(example, rf"\boxed{{{text}}}") == 0.0
        assert task.score(example, r"\sqrt{4}") == 1.0

    GSM8K = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k"
    if GSM8K.exists():

        def test_every_answer_of_gsm8k_scores_1(tmp_path: Path) -> None:
            paths = {split: str(GSM8K / f"{split}.jsonl") for split in ("train", "test")}
            task = make_task(task_spec({"type": "file", "verifier": "math", **paths}), seed=0)
            for split in ("train", "test"):
                examples = task.sample("train" if split == "train" else "test", None, 1)
                assert all(task.score(example, f"#### {example.answer}") == 1.0 for example in examples)
                assert all(task.score(example, f"#### {example.answer}1") == 0.0 for example in examples[::50])
