"""Sampling of the engine on transformers: frequencies, independence of neighbours, what must never be drawn."""

from math import log

import pytest
import torch

from neuromas.engines.sampling import sample_rows
from neuromas.rollout.engine import Sampling

SHARES = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05])
LOGITS = SHARES.log()


def draw(logits: torch.Tensor, sampling: Sampling, seeds: range) -> tuple[list[int], list[float]]:
    rows = len(seeds)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    tokens, logprobs, _ = sample_rows(logits.expand(rows, -1), [sampling] * rows, generators)
    return tokens, logprobs


def shares(tokens: list[int]) -> torch.Tensor:
    return torch.bincount(torch.tensor(tokens), minlength=len(SHARES)) / len(tokens)


def test_tokens_come_as_often_as_they_are_probable_with_their_logprobs() -> None:
    tokens, logprobs = draw(LOGITS, Sampling(1, 1.0, 1.0), range(4000))
    # Three standard errors of the most uncertain share, .5, are .024.
    assert (shares(tokens) - SHARES).abs().max() < 0.024
    assert shares(tokens)[1] == 0
    assert logprobs == pytest.approx([float(LOGITS[token]) for token in tokens])


def test_temperature_and_nucleus_change_the_distribution_that_is_reported() -> None:
    tokens, logprobs = draw(LOGITS, Sampling(1, 0.5, 1.0), range(4000))
    sharper = SHARES**2 / (SHARES**2).sum()
    assert (shares(tokens) - sharper).abs().max() < 0.024
    assert logprobs == pytest.approx([float(sharper[token].log()) for token in tokens])
    tokens, logprobs = draw(LOGITS, Sampling(1, 1.0, 0.7), range(400))
    assert set(tokens) == {0, 2}
    assert sorted(set(logprobs)) == pytest.approx([float(torch.tensor(share).log()) for share in (0.375, 0.625)])


def test_a_row_draws_the_same_whoever_its_neighbours_are() -> None:
    wide = torch.randn(6, 1000, generator=torch.Generator().manual_seed(0))
    samplings = [Sampling(1, 1.0, 1.0)] * 5 + [Sampling(1, 0.0, 1.0)]
    together, _, _ = sample_rows(wide, samplings, [torch.Generator().manual_seed(k) for k in range(6)])
    alone = [
        sample_rows(wide[k : k + 1], samplings[k : k + 1], [torch.Generator().manual_seed(k)])[0][0] for k in range(6)
    ]
    assert together == alone
    assert together[5] == int(wide[5].argmax())


@pytest.mark.parametrize(
    ("sampling", "top"),
    [
        (Sampling(1, 1.0, num_top=2), [(0, 0.5), (2, 0.3)]),
        (Sampling(1, 0.0, num_top=1), [(0, 0.5)]),
        (Sampling(1, 1.0, num_top=5), [(0, 0.5), (2, 0.3), (3, 0.15), (4, 0.05)]),  # token 1 has no probability
        (Sampling(1, 1.0, 0.7, num_top=3), [(0, 0.625), (2, 0.375)]),
        (Sampling(1, 1.0), []),
    ],
)
def test_the_most_probable_tokens_are_those_of_the_distribution_sampled_from(
    sampling: Sampling, top: list[tuple[int, float]]
) -> None:
    rows = [sampling, Sampling(1, 1.0, num_top=3)]
    _, _, (found, _) = sample_rows(LOGITS.expand(2, -1), rows, [torch.Generator().manual_seed(k) for k in range(2)])
    assert [token_id for token_id, _ in found] == [token_id for token_id, _ in top]
    assert [logprob for _, logprob in found] == pytest.approx([log(share) for _, share in top], abs=1e-6)
