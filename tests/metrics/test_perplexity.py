from math import exp, log

import pytest
import torch
from torch.nn import functional

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.perplexity import Perplexity


def test_it_is_the_exponential_of_the_loss_over_all_tokens():
    logits, labels = torch.randn(12, 7, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 7
    losses = functional.cross_entropy(logits, labels, reduction="none")
    texts = [(float(losses[:2].sum()), 2), (float(losses[2:].sum()), 10)]
    assert Perplexity().value(texts, [None, None]) == pytest.approx(exp(float(losses.mean())))


def test_a_uniform_choice_among_n_tokens_scores_n_and_certainty_one():
    assert Perplexity().value([(5 * log(50), 5), (log(50), 1)], ["", ""]) == pytest.approx(50)
    assert Perplexity().value([(0.0, 3)], [None]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ((0.0, 0), "text 2 of 2 has 0 tokens; at least one is needed"),
        ((float("nan"), 3), "text 2 of 2 has a negative log-likelihood of nan; a finite number of at least 0"),
        ((-1.0, 3), "text 2 of 2 has a negative log-likelihood of -1.0"),
        ((8000.0, 10), "text 2 of 2 has 800 nats a token; e to that power is beyond"),
    ],
)
def test_what_has_no_perplexity_is_named_by_its_place(text, message):
    with pytest.raises(DataError, match=f"perplexity: {message}"):
        Perplexity().value([(1.0, 1), text], [None, None])


def test_lower_is_better_and_its_label_is_the_name_of_the_field():
    assert not Perplexity.higher_is_better
    assert Perplexity().statistics([], []).shape == (0, 2)
    assert Metric.read("perplexity").label == "perplexity"
