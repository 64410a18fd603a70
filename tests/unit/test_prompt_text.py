"""The words of a prompt: templates, worked examples, cues."""

from pathlib import Path

import pytest
from letter_base import spelled, write_letter_base

from neuromas.errors import SpecError
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.text_template import TextTemplate
from neuromas.spec.parse import parse_section
from neuromas.spec.parts import DemonstrationSpec, PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology.builders import chain, layered
from neuromas.topology.graph import Node, Topology

ASK = Example("x", "2 + 3", "5", level=2)
WORKED = (
    DemonstrationSpec(question="1 + 1", answer="2"),
    DemonstrationSpec(question="2 + 3", answer="5"),
    DemonstrationSpec(question="1 + 2 + 3", answer="6", level=3),
    DemonstrationSpec(question="4 + 4", answer="8", level=2),
)


def read(
    folder: Path, spec: PromptSpec, graph: Topology, node: str, signals: list[tuple[str, str]], ask: Example = ASK
) -> str:
    return spelled(make_renderer(spec, write_letter_base(folder)).render(graph, node, ask, signals, 4))


def test_worked_examples_are_those_of_the_level_and_never_the_question_itself(tmp_path: Path) -> None:
    spec = PromptSpec(instruction="", demonstrations=WORKED)
    assert read(tmp_path, spec, chain(1), "n1", []) == (
        "Task:\n1 + 1\n\nAnswer: 2\n\nTask:\n4 + 4\n\nAnswer: 8\n\nTask:\n2 + 3\n\nAnswer:"
    )
    other = Example("y", " 1 + 1\n", "2", level=3)
    assert read(tmp_path, spec, chain(2), "n1", [], other) == (
        "Task:\n2 + 3\n\nMessage: 5\n\nTask:\n1 + 2 + 3\n\nMessage: 6\n\nTask:\n 1 + 1\n\n\nMessage:"
    )


def test_a_cue_replaces_that_of_the_renderer_and_may_be_left_out(tmp_path: Path) -> None:
    worked = WORKED[:1]
    spec = PromptSpec(instruction="", cue="So:", demonstrations=worked)
    assert read(tmp_path, spec, chain(1), "n1", []) == "Task:\n1 + 1\n\nSo: 2\n\nTask:\n2 + 3\n\nSo:"
    assert read(tmp_path, PromptSpec(instruction="", cue=""), chain(1), "n1", []) == "Task:\n2 + 3"


def test_a_template_writes_the_whole_text(tmp_path: Path) -> None:
    template = (
        "{{{layer}.{index} of {depth}x{width}, {max_tokens}}}\n{demonstrations}\nQ {question}\n"
        "from n2: {messages[n2]}; {messages}"
    )
    spec = PromptSpec(template=template, cue="A", demonstrations=WORKED[:1])
    graph = layered([2])
    assert read(tmp_path, spec, graph, "n3", [("n1", "{layer}"), ("n2", "b")]) == (
        "{2.1 of 2x2, 4}\nTask:\n1 + 1\n\nA 2\nQ 2 + 3\nfrom n2: b; Message from layer 1, position 1:\n{layer}\n\n"
        "Message from layer 1, position 2:\nb\n\nA"
    )
    assert read(tmp_path, spec, graph, "n1", []).endswith("from n2: ; \n\nA")
    deaf = Topology((Node("a"), Node("b", reads_task=False)), (("a", "b"),), "b")
    assert "Q \n" in read(tmp_path, spec, deaf, "b", [("a", "5")])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{question.__class__}", r"uses \{question\.__class__\}; allowed are \{demonstrations\}, \{depth\}"),
        ("{question} {messages[n1].__class__}", r"uses \{messages\[n1\]\.__class__\}"),
        ("{question} {layer[0]}", r"uses \{layer\[0\]\}"),
        ("{question:>999999999}", "a field is its name alone"),
        ("{question!r}", "a field is its name alone"),
        ("{question} {layer:{width}}", "a field is its name alone"),
        ("{}", r"uses \{\}"),
        ("{0}", r"uses \{0\}"),
        ("{role} {question}", r"uses \{role\}"),
        ("{question", "not a valid template: expected '}'"),
        ("Say something.", r"does not show the task; use \{question\}"),
        ("{question} {demonstrations}", r"uses \{demonstrations\} where prompt\.demonstrations are given"),
    ],
)
def test_a_template_is_names_and_nothing_else(tmp_path: Path, template: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_renderer(PromptSpec(template=template), write_letter_base(tmp_path))


def test_a_template_shows_what_it_is_given(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"shows no messages, and a node reads some; use \{messages\}"):
        read(tmp_path, PromptSpec(template="{question}"), chain(2), "n2", [("n1", "5")])
    with pytest.raises(SpecError, match=r"uses \{demonstrations\} where prompt\.demonstrations are given"):
        read(tmp_path, PromptSpec(template="{question}", demonstrations=WORKED), chain(1), "n1", [])


def test_an_instruction_takes_no_formats(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"prompt\.instruction gives \{layer\} a format; a field is its name alone"):
        make_renderer(PromptSpec(instruction="{layer:>999999999}"), write_letter_base(tmp_path))


def test_what_is_filled_in_is_not_read_again() -> None:
    template = TextTemplate("{a} {{a}} {b}", "it", ("a", "b"))
    assert template.fill({"a": "{b}", "b": "{a}"}.__getitem__) == "{b} {a} {a}"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"template": "{question}", "instruction": "Go."}, "template replaces instruction and answer_format"),
        ({"drawn_demonstrations": 2, "demonstrations": [{"question": "1", "answer": "1"}]}, "given or drawn"),
        ({"demonstrations": [{"question": "", "answer": "1"}]}, "question"),
    ],
)
def test_settings_that_do_not_go_together(section: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_section(PromptSpec, section)
    assert any(message in f"{fault.path} {fault.message}" for fault in caught.value.faults)
