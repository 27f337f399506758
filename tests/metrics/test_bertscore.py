import numpy as np
import pytest

from burnish.metrics import Metric
from burnish.metrics.bertscore import Bertscore, TokenVectors


def drawn(random: np.random.Generator, tokens: int) -> TokenVectors:
    vectors = random.normal(size=(tokens, 5))
    return TokenVectors(
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), random.random(tokens) + 0.1
    )


def brute_force(said: TokenVectors, right: TokenVectors, part: str) -> float:
    def covered(one: TokenVectors, other: TokenVectors) -> float:
        total = 0.0
        for vector, weight in zip(one.vectors, one.weights, strict=True):
            total += weight * max(
                sum(float(a) * float(b) for a, b in zip(vector, near, strict=True)) for near in other.vectors
            )
        return total / sum(one.weights)

    precision, recall = covered(said, right), covered(right, said)
    if part != "f1":
        return precision if part == "precision" else recall
    return 2 * precision * recall / (precision + recall) if precision > 0 and recall > 0 else 0.0


@pytest.mark.parametrize("part", ["f1", "precision", "recall"])
def test_it_equals_a_brute_force_against_the_best_reference(part):
    random = np.random.default_rng(1)
    said = [drawn(random, size) for size in random.integers(1, 8, size=20)]
    right = [[drawn(random, size) for size in random.integers(1, 8, size=2)] for _ in said]
    expected = [max(brute_force(s, r, part) for r in rights) for s, rights in zip(said, right, strict=True)]
    assert Bertscore(part=part).score(said, right) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("part", ["f1", "precision", "recall"])
def test_a_text_scores_one_against_itself_and_a_text_without_tokens_only_against_another(part):
    some, none = drawn(np.random.default_rng(2), 4), TokenVectors(np.zeros((0, 5), dtype=np.float32), np.zeros(0))
    assert Bertscore(part=part).score([some, none, some, none], [[some], [some], [none], [none]]) == pytest.approx(
        [1, 0, 0, 1]
    )
    assert Bertscore(part=part).score([], []) == []


def test_opposite_vectors_stay_within_the_bounds():
    one = TokenVectors(np.array([[1, 0]], dtype=np.float32), np.ones(1))
    other = TokenVectors(np.array([[-1, 0]], dtype=np.float32), np.ones(1))
    assert Bertscore(part="recall").score([one], [[other]]) == [-1.0]
    assert Bertscore().score([one], [[other]]) == [0.0]


def test_its_label_says_what_it_was_measured_with():
    assert Metric.read("bertscore").label == "BERTScore F1 (embedded/minilm)"
    settings = {"kind": "bertscore", "model": "models/bert", "layer": 9, "idf": True, "part": "recall"}
    assert Metric.read(settings).label == "BERTScore recall (models/bert, layer 9, idf)"
