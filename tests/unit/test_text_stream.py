"""Text that is streamed: whole characters, and joined exactly the text of the message, over kinds of tokenizers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from neuromas.rollout.token_text import TokenText

SPECIALS = ["<eos>", "<eos>x", "<a", ">>"]
ALPHABET = "ab <>eosx\n\té中😀�"


def byte_level() -> Tokenizer:
    """Every byte is a token: characters of several bytes are always split."""
    tokenizer = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_fallback() -> Tokenizer:
    """Pieces with a space mark at the beginning of words, and bytes for what is in no piece."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocab |= {
        piece: 256 + place for place, piece in enumerate(["▁", "a", "b", "▁a", "▁b", "<", ">", "e", "o", "s", "x"])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "a"), ("▁", "b")], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def word_level() -> Tokenizer:
    words = ["a", "b", "so", "<", ">", "é", "中", "<a", "eos>"]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


TOKENIZERS = {"bytes": byte_level(), "pieces": byte_fallback(), "words": word_level()}
for _tokenizer in TOKENIZERS.values():
    _tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])


TEXTS = {kind: TokenText(tokenizer) for kind, tokenizer in TOKENIZERS.items()}


def stream(text: TokenText, token_ids: Sequence[int], cuts: Sequence[int] = ()) -> list[str]:
    """The pieces of a message whose tokens come one by one, or in lots that end at ``cuts``."""
    spoken = text.stream()
    ends = (
        sorted({cut % (len(token_ids) + 1) for cut in cuts} | {len(token_ids)})
        if cuts
        else range(1, len(token_ids) + 1)
    )
    pieces, begin = [], 0
    for end in ends:
        pieces.append(spoken.push(token_ids[begin:end]))
        begin = end
    return [*pieces, spoken.finish(text.decode(tuple(token_ids)))]


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=st.text(st.sampled_from(ALPHABET), max_size=24), cuts=st.lists(st.integers(0, 50), max_size=4))
def test_joined_pieces_are_the_message(kind: str, text: str, cuts: list[int]) -> None:
    texts = TEXTS[kind]
    token_ids = texts.encode(text)
    assert "".join(stream(texts, token_ids, cuts)) == texts.decode(token_ids)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(data=st.data())
def test_any_tokens_whatsoever_are_spelled_as_they_are_decoded(kind: str, data: st.DataObject) -> None:
    texts = TEXTS[kind]
    size = TOKENIZERS[kind].get_vocab_size()
    token_ids = tuple(data.draw(st.lists(st.integers(0, size - 1), max_size=30)))
    assert "".join(stream(texts, token_ids)) == texts.decode(token_ids)


@given(st.text(st.sampled_from("aé中😀 "), max_size=12))
def test_no_piece_holds_half_a_character(text: str) -> None:
    texts = TEXTS["bytes"]
    for piece in stream(texts, texts.encode(text)):
        assert "\N{REPLACEMENT CHARACTER}" not in piece


def test_text_comes_as_soon_as_it_is_certain() -> None:
    texts = TEXTS["bytes"]
    assert stream(texts, texts.encode("a 中b")) == ["a", "", "", "", " 中", "b", ""]


def test_outer_white_space_and_special_tokens_are_no_text() -> None:
    texts = TEXTS["bytes"]
    spelled = tuple(token_id for char in "  a<eos>b > \n" for token_id in texts.encode(char))
    eos = TOKENIZERS["bytes"].token_to_id("<eos>")
    assert texts.decode((*spelled, eos)) == "ab >"
    assert "".join(stream(texts, (*spelled, eos))) == "ab >"


def test_a_beginning_of_a_special_token_is_held_back_until_it_is_none() -> None:
    texts = TEXTS["bytes"]
    spelled = tuple(token_id for char in "x<eob" for token_id in texts.encode(char))
    assert stream(texts, spelled) == ["x", "", "", "", "<eob", ""]
