"""Rows are sampled each for itself: what breaks one leaves its neighbours as they are."""

from __future__ import annotations

from math import isnan

import pytest
import torch

from neuromas.engines.sampling import sample_rows
from neuromas.rollout.engine import Sampling


def test_a_row_without_numbers_leaves_the_others_alone() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0], [float("nan")] * 3, [3.0, 0.0, 0.0]])
    samplings = [Sampling(1, 1.0, 0.5), Sampling(1, 1.0), Sampling(1, 0.0)]
    generators = [torch.Generator().manual_seed(0) for _ in range(3)]
    tokens, logprobs, _ = sample_rows(logits, samplings, generators)
    assert tokens == [1, 0, 0]
    assert logprobs[0] == 0.0
    assert isnan(logprobs[1])
    assert logprobs[2] == pytest.approx(-0.0949, abs=1e-3)


@pytest.mark.parametrize("temperature", [0.01, 4.0])
@pytest.mark.parametrize("top_p", [0.001, 1.0])
def test_the_ends_of_what_is_allowed_give_numbers(temperature: float, top_p: float) -> None:
    logits = torch.tensor([[-40.0, 60.0, 59.0]])
    tokens, logprobs, _ = sample_rows(logits, [Sampling(1, temperature, top_p)], [torch.Generator().manual_seed(1)])
    assert tokens[0] in (1, 2)
    assert logprobs[0] <= 0.0
