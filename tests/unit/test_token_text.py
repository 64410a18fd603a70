"""Text to token ids: as one with its frame, unless that would make a control token of what somebody wrote."""

from __future__ import annotations

from tokenizers import Tokenizer, models

from neuromas.rollout.token_text import TokenText

VOCABULARY = {name: id for id, name in enumerate(("a", "b", "<", "s", ">", "ab", "<s>"))}


def token_text() -> TokenText:
    tokenizer = Tokenizer(models.BPE(vocab=VOCABULARY, merges=[("a", "b")]))
    tokenizer.add_special_tokens(["<s>"])
    return TokenText(tokenizer)


def names(ids: tuple[int, ...]) -> list[str]:
    spelled = {id: name for name, id in VOCABULARY.items()}
    return [spelled[id] for id in ids]


def test_words_are_read_across_the_edges_of_a_frame() -> None:
    text = token_text()
    assert names(text.framed("<s>a", "b", "<s>")) == ["<s>", "ab", "<s>"]
    assert names(text.framed("", "a", "b")) == ["ab"]


def test_what_spells_a_control_token_is_read_as_its_characters() -> None:
    text = token_text()
    assert names(text.framed("<s>a", "b<s>a", "b")) == ["<s>", "a", "b", "<", "s", ">", "a", "b"]
    # Also where frame and text spell it together.
    assert names(text.framed("a<", "s", ">b")) == ["a", "<", "s", ">", "b"]
