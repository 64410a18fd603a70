"""Prompts in a base's own chat template, whatever the template asks for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from letter_base import CHATML, CHATML_TOKENS, spelled, write_letter_base

from neuromas.errors import BaseModelError, SpecError
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.renderer import Renderer
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology.builders import chain

ASK = PromptSpec(instruction="")
PARTS = CHATML.replace("{{ m['content'] }}", "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}")
DEMANDING = (
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('A system message is required') }}{% endif %}" + CHATML
)
REFUSING = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
IGNORING = CHATML.replace("messages %}<", "messages if m['role'] != 'system' %}<", 1)
THINKING = CHATML.replace(
    "assistant\n{% endif %}", "assistant\n{% if not (enable_thinking | default(true)) %}<no>{% endif %}{% endif %}"
)
DATED = "{{ strftime_now('%d %b %Y') }} " + CHATML


def read(folder: Path, template: str, spec: PromptSpec = ASK, question: str = "Which?") -> str:
    renderer = make_renderer(spec, write_letter_base(folder, CHATML_TOKENS, template))
    return spelled(renderer.render(chain(1), "n1", Example("x", question, "B"), []), CHATML_TOKENS)


USER = "[[<|im_start|>]]user\nTask:\nWhich?[[<|im_end|>]]\n[[<|im_start|>]]assistant\n"
SYSTEM = "[[<|im_start|>]]system\nCount.[[<|im_end|>]]\n"


@pytest.mark.parametrize("template", [CHATML, PARTS, REFUSING, IGNORING])
def test_a_question_is_one_user_turn(tmp_path: Path, template: str) -> None:
    assert read(tmp_path, template) == USER


@pytest.mark.parametrize("template", [CHATML, PARTS, DEMANDING])
def test_a_system_turn_goes_before_it(tmp_path: Path, template: str) -> None:
    assert read(tmp_path, template, PromptSpec(instruction="", system="Count.")) == SYSTEM + USER


def test_a_template_that_wants_another_system_turn_says_so(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"A system message is required; it demands .* set prompt\.system"):
        read(tmp_path, DEMANDING)
    with pytest.raises(BaseModelError, match=r"System role not supported; it refuses .* leave out prompt\.system"):
        read(tmp_path, REFUSING, PromptSpec(system="Count."))
    with pytest.raises(BaseModelError, match=r"shows no system turn; leave out prompt\.system"):
        read(tmp_path, IGNORING, PromptSpec(system="Count."))


def test_a_template_that_shows_no_question_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"does not show a user's text as it is; use prompt\.renderer"):
        read(tmp_path, CHATML.replace("{{ m['content'] }}", ""))


def test_variables_of_the_template_are_set_and_unknown_ones_refused(tmp_path: Path) -> None:
    assert read(tmp_path, THINKING) == USER
    assert read(tmp_path, THINKING, PromptSpec(instruction="", template_kwargs={"enable_thinking": False})) == (
        f"{USER}<no>"
    )
    with pytest.raises(BaseModelError, match=r"sets thinking, which .* does not read; it reads enable_thinking"):
        read(tmp_path, THINKING, PromptSpec(template_kwargs={"thinking": False}))
    with pytest.raises(BaseModelError, match=r"sets messages, .* it reads none"):
        read(tmp_path, CHATML, PromptSpec(template_kwargs={"messages": "all"}))


def test_a_cue_begins_the_assistants_turn(tmp_path: Path) -> None:
    assert read(tmp_path, CHATML, PromptSpec(instruction="", cue="Answer:")) == f"{USER}Answer:"


def test_a_prompt_does_not_depend_on_the_day(tmp_path: Path) -> None:
    assert read(tmp_path, DATED) == f"26 Jul 2024 {USER}"


def test_a_template_cannot_reach_python(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="unsafe"):
        read(tmp_path, "{{ messages.__class__.__mro__ }}" + CHATML)


def test_settings_of_another_renderer_are_refused(tmp_path: Path, word_base: Path) -> None:
    plain = write_letter_base(tmp_path)
    with pytest.raises(SpecError, match=r"prompt\.system, prompt\.template_kwargs: not used by the renderer 'plain'"):
        make_renderer(PromptSpec(system="Count.", template_kwargs={"a": 1}), plain)
    with pytest.raises(SpecError, match=r"prompt\.cue: not used by the renderer 'compact'"):
        make_renderer(PromptSpec(cue="Answer:"), word_base)


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> list[Renderer]:
    chat = write_letter_base(tmp_path_factory.mktemp("chat"), CHATML_TOKENS, CHATML)
    return [make_renderer(PromptSpec(renderer=name), chat) for name in ("chat", "plain")]


MARKS = st.sampled_from([*CHATML_TOKENS, "<|im_", "start|>", "\n", "a", "<|im_<|im_end|>end|>"])


@given(st.lists(MARKS, max_size=6).map("".join), st.lists(MARKS, max_size=6).map("".join))
def test_no_question_and_no_message_holds_a_control_token(
    renderers: list[Renderer], question: str, message: str
) -> None:
    for renderer in renderers:
        ask = renderer.render(chain(2), "n2", Example("x", "a", "B"), [("n1", "a")])
        controls = [token for token in ask if token >= 256]
        prompt = renderer.render(chain(2), "n2", Example("x", question, "B"), [("n1", message)])
        assert [token for token in prompt if token >= 256] == controls
        shown = "".join(map(chr, (token for token in prompt if token < 256)))
        assert f"Task:\n{question}\n\nMessage" in shown
        assert f"position 1:\n{message}".strip() in shown


def test_a_word_that_is_a_control_token_is_left_out(word_base: Path) -> None:
    renderer = make_renderer(PromptSpec(), word_base)
    ask, marked = (
        renderer.render(chain(2), "n2", Example("x", question, "B"), [("n1", message)])
        for question, message in (("find E=", "so 7"), ("find <eos> E=", "<bos> so <pad> 7 <eos>"))
    )
    assert marked == ask
