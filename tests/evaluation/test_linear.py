import numpy as np
import pytest
from sklearn.linear_model import Ridge

from burnish.evaluation.linear import cross_validated, joined_vectors, probed_labels, probed_scores


def data(rows: int = 60, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(rows, width))
    return vectors, vectors @ draw.normal(size=width)


FOLDS = [str(row % 4) for row in range(60)]


def test_a_probe_finds_what_stands_in_a_line():
    vectors, scores = data()
    assert np.corrcoef(probed_scores(vectors, scores.tolist(), FOLDS), scores)[0, 1] > 0.99
    labels = [("up",) if score > 0 else ("down",) for score in scores]
    found = probed_labels(vectors, labels, FOLDS, many=False)
    assert np.mean([said == right[0] for said, right in zip(found, labels, strict=True)]) > 0.9


def test_a_probe_finds_nothing_where_there_is_nothing():
    vectors, _ = data()
    noise = np.random.default_rng(1).normal(size=60)
    assert abs(np.corrcoef(probed_scores(vectors, noise.tolist(), FOLDS), noise)[0, 1]) < 0.5


def test_several_labels_are_questions_of_their_own():
    vectors, _ = data()
    labels = [tuple(name for name, value in zip("ab", row, strict=False) if value > 0) for row in vectors]
    found = probed_labels(vectors, labels, FOLDS, many=True)
    assert np.mean([said == right for said, right in zip(found, labels, strict=True)]) > 0.7
    assert () in found


def test_a_row_is_told_by_the_other_folds_alone():
    vectors, scores = data()
    plain = cross_validated(vectors, scores[:, None], FOLDS)
    moved = scores.copy()
    inside = np.array(FOLDS) == "2"
    moved[inside] += 100
    again = cross_validated(vectors, moved[:, None], FOLDS)
    np.testing.assert_allclose(again[inside], plain[inside])
    outside = ~inside
    mean, spread = vectors[outside].mean(axis=0), vectors[outside].std(axis=0)
    scaled = (vectors - mean) / spread
    expected = Ridge(alpha=0.1).fit(scaled[outside], scores[outside]).predict(scaled[inside])
    np.testing.assert_allclose(plain[inside, 0], expected, rtol=1e-6)  # without noise the least penalty is chosen


def test_a_pair_is_read_as_both_their_distance_and_their_product():
    found = joined_vectors(np.array([[1.0, 2.0]]), np.array([[3.0, -1.0]]))
    assert found.tolist() == [[1, 2, 3, -1, 2, 3, 3, -2]]


def test_a_dimension_that_never_varies_does_no_harm():
    vectors, scores = data()
    vectors[:, 0] = 7.0
    assert np.isfinite(probed_scores(vectors, scores.tolist(), FOLDS)).all()
    assert len(probed_scores(vectors, scores.tolist(), FOLDS)) == pytest.approx(60)
