"""The tokens that end a message are all that a base's files name, and nothing that is no token of it."""

import json
from pathlib import Path

import pytest
from letter_base import CHATML, CHATML_TOKENS, write_letter_base

from neuromas.base.resolve import read_base
from neuromas.errors import BaseModelError
from neuromas.rollout.prompt import make_renderer
from neuromas.spec.parts import PromptSpec

GEMMA_TOKENS = ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
DEMANDING = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('A system message is required') }}{% endif %}"
PARTS = CHATML.replace("{{ m['content'] }}", "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}")
MARKED = CHATML.replace("{{ m['content'] }}", "{% generation %}{{ m['content'] }}{% endgeneration %}")


@pytest.mark.parametrize("template", [CHATML, DEMANDING + CHATML, PARTS, MARKED])
def test_what_a_template_writes_after_an_assistants_turn_ends_a_message(tmp_path: Path, template: str) -> None:
    base = write_letter_base(tmp_path, CHATML_TOKENS, template)
    assert read_base(tmp_path).stop_token_ids == (256, 258)
    (base / "tokenizer_config.json").unlink()
    (base / "chat_template.jinja").write_text(template)
    assert read_base(tmp_path).stop_token_ids == (256, 258)


def test_a_template_that_refuses_a_system_turn_is_asked_without_one(tmp_path: Path) -> None:
    write_letter_base(tmp_path, GEMMA_TOKENS, GEMMA, tokenizer={"bos_token": "<bos>"})
    assert read_base(tmp_path).stop_token_ids == (256, 259)


def test_every_file_counts_and_each_token_once(tmp_path: Path) -> None:
    write_letter_base(
        tmp_path,
        ("<a>", "<b>", "<c>", "<d>"),
        config={"eos_token_id": 257, "text_config": {"eos_token_id": [256, 257]}},
        generation={"eos_token_id": [258, 257]},
        tokenizer={"eos_token": {"content": "<d>", "special": True}},
    )
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"] |= {key: config[key] for key in ("num_attention_heads", "hidden_size", "vocab_size")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_base(tmp_path).stop_token_ids == (258, 257, 256, 259)


def test_an_empty_list_declares_nothing(tmp_path: Path) -> None:
    write_letter_base(tmp_path, config={"eos_token_id": []}, tokenizer={"eos_token": "<end>"})
    assert read_base(tmp_path).stop_token_ids == (256,)
    write_letter_base(tmp_path / "none", config={"eos_token_id": []})
    with pytest.raises(BaseModelError, match=r"no end token: .* set eos_token_id in config\.json"):
        read_base(tmp_path / "none")


@pytest.mark.parametrize("value", [99_999, -1, 257, True, "2", [256, 99_999], 2.0])
def test_what_is_no_token_of_the_base_is_refused(tmp_path: Path, value: object) -> None:
    write_letter_base(tmp_path, generation={"eos_token_id": value})
    with pytest.raises(BaseModelError, match=r"generation_config\.json: eos_token_id holds .* from 0 to 256"):
        read_base(tmp_path)


def test_a_broken_template_matters_only_where_it_is_used(tmp_path: Path) -> None:
    write_letter_base(tmp_path, CHATML_TOKENS, "{% for m in messages %}{{ m['content'] }}")
    assert read_base(tmp_path).stop_token_ids == (256,)
    make_renderer(PromptSpec(renderer="plain"), tmp_path)
    with pytest.raises(BaseModelError, match=r"chat template of base .* says: .*endfor"):
        make_renderer(PromptSpec(), tmp_path)
