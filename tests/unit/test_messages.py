"""What messages hold: entropies and information by hand, similarities against formed updates."""

import numpy as np
import pytest

from neuromas.adapters.ref import PlainLora
from neuromas.studies.messages import entropy_bits, information_bits
from neuromas.studies.similarity import MAX_PAIRS, most_alike


def test_entropy_of_known_frequencies() -> None:
    assert entropy_bits(["a"] * 8) == 0
    assert entropy_bits(["a", "b"] * 4) == 1
    assert entropy_bits(["a", "a", "b", "c"]) == 1.5


def test_a_message_that_repeats_the_answer_holds_nearly_all_of_it() -> None:
    answers = [str(k % 4) for k in range(400)]
    assert information_bits(answers, answers) == pytest.approx(2.0, abs=0.03)


def test_messages_that_have_nothing_to_do_with_the_answer_hold_nothing_however_many_there_are() -> None:
    generator = np.random.default_rng(0)
    answers = [str(k) for k in generator.integers(0, 8, 200)]
    messages = [str(k) for k in generator.integers(0, 100, 200)]
    assert information_bits(messages, answers) < 0.05


def test_information_that_half_the_messages_give() -> None:
    # Half of the time the message is the answer (1 bit of 1), else a constant: I = 1/2 bit.
    answers = ["0", "1"] * 200
    messages = [answer if k % 4 < 2 else "-" for k, answer in enumerate(answers)]
    assert information_bits(messages, answers) == pytest.approx(0.5, abs=0.01)


def random_lora(seed: int, rank: int) -> PlainLora:
    draw = np.random.default_rng(seed)
    pair = {path: (draw.normal(size=(rank, 6)), draw.normal(size=(5, rank))) for path in ("q", "v")}
    return PlainLora(rank, pair)


def test_similarity_is_the_cosine_of_the_formed_updates() -> None:
    loras = {"a": random_lora(0, 2), "b": random_lora(1, 3)}
    formed = {name: np.concatenate([(b @ a).ravel() for a, b in lora.modules.values()]) for name, lora in loras.items()}
    cosine = formed["a"] @ formed["b"] / np.linalg.norm(formed["a"]) / np.linalg.norm(formed["b"])
    assert most_alike(loras) == [{"adapters": ["a", "b"], "cosine": pytest.approx(cosine, abs=1e-12)}]


def test_similarity_does_not_depend_on_how_an_update_is_factored() -> None:
    one = random_lora(0, 2)
    other = PlainLora(2, {path: (2 * a[::-1], b[:, ::-1] / 2) for path, (a, b) in one.modules.items()})
    assert most_alike({"a": one, "b": other}) == [{"adapters": ["a", "b"], "cosine": pytest.approx(1)}]


def test_an_adapter_without_an_update_is_like_none() -> None:
    silent = PlainLora(1, {"q": (np.ones((1, 6)), np.zeros((5, 1)))})
    assert most_alike({"a": random_lora(0, 2), "b": silent}) == [{"adapters": ["a", "b"], "cosine": 0.0}]


def test_of_very_many_pairs_the_most_alike_are_listed() -> None:
    loras = {f"a{k}": random_lora(k % 13, 1) for k in range(26)}  # 13 twins among 325 pairs
    found = most_alike(loras)
    assert len(found) == MAX_PAIRS
    twins = [[f"a{k}", f"a{k + 13}"] for k in range(13)]
    assert sorted(pair["adapters"] for pair in found[:13]) == sorted(twins)
    assert [pair["cosine"] for pair in found] == sorted((pair["cosine"] for pair in found), reverse=True)
