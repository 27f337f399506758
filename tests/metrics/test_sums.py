"""What holds for every metric that is a function of sums over examples."""

import random

import numpy as np
import pytest

from burnish.metrics import Guess, Metric

SIZE = 24
LABELS = ["a", "b", "c"]
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "one", "two"]


def labels(draw: random.Random):
    right = [draw.choice(LABELS) for _ in range(SIZE)]
    return [label if draw.random() < 0.6 else draw.choice(LABELS) for label in right], right


def guesses(draw: random.Random):
    said, right = labels(draw)
    return [Guess(label, draw.random()) for label in said], right


def numbers(draw: random.Random):
    right = [draw.gauss(50, 3) for _ in range(SIZE)]
    return [number + draw.gauss(0, 2) for number in right], right


def texts(draw: random.Random):
    right = [[" ".join(draw.choices(WORDS, k=9))] for _ in range(SIZE)]
    return [" ".join(w if draw.random() < 0.7 else draw.choice(WORDS) for w in r[0].split()) for r in right], right


def losses(draw: random.Random):
    return [(draw.uniform(1, 40), draw.randint(1, 9)) for _ in range(SIZE)], [None] * SIZE


MAKERS = {
    "f1": labels,
    "mcc": labels,
    "accuracy": labels,
    "calibration": guesses,
    "pearson": numbers,
    "spearman": numbers,
    "rmse": numbers,
    "bleu": texts,
    "chrf": texts,
    "rouge": texts,
    "meteor": texts,
    "perplexity": losses,
}
each_metric = pytest.mark.parametrize("name", MAKERS)


@each_metric
def test_many_sums_at_once_give_what_each_gives_alone(name):
    metric = Metric.read(name)
    statistics = metric.statistics(*MAKERS[name](random.Random(1)))
    counts = np.random.default_rng(2).multinomial(SIZE, [1 / SIZE] * SIZE, size=(3, 4))
    together = metric.combine(counts.astype(float) @ statistics)
    assert together.shape == (3, 4)
    assert together.dtype == np.float64
    for place in np.ndindex(3, 4):
        alone = metric.combine(statistics[np.repeat(np.arange(SIZE), counts[place])].sum(axis=0))
        assert together[place] == pytest.approx(float(alone), abs=1e-9)


@each_metric
def test_values_lie_within_the_bounds_and_the_order_of_examples_does_not_matter(name):
    metric = Metric.read(name)
    for seed in range(5):
        said, right = MAKERS[name](random.Random(seed))
        order = random.Random(seed + 10).sample(range(SIZE), SIZE)
        value = metric.value(said, right)
        assert metric.bounds[0] <= value <= metric.bounds[1]
        assert metric.value([said[row] for row in order], [right[row] for row in order]) == pytest.approx(value)


@each_metric
def test_statistics_of_two_systems_stand_in_the_same_columns(name):
    metric = Metric.read(name)
    ours, right = MAKERS[name](random.Random(6))
    theirs = [*reversed(ours)]
    mine, other = metric.paired_statistics(ours, theirs, right)
    assert mine.shape == other.shape
    assert float(metric.combine(mine.sum(axis=0))) == pytest.approx(metric.value(ours, right))
    assert float(metric.combine(other.sum(axis=0))) == pytest.approx(metric.value(theirs, right))


def test_a_metric_knows_whether_it_is_a_mean():
    means = {name for name in MAKERS if Metric.read(name).is_mean}
    assert means == {"accuracy", "rouge", "meteor"}


def test_a_corpus_metric_has_no_score_of_single_examples():
    with pytest.raises(NotImplementedError, match="BLEU is no mean of scores of single examples"):
        Metric.read("bleu").score(["a"], [["a"]])
