"""The retrieval metrics agree with trec_eval, tied scores included."""

import random

import pytest
import pytrec_eval

from burnish.metrics import Metric

QUESTIONS = 200


def _runs_with_ties(seed: int) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]:
    """Return runs of 1 to 30 passages with five different scores, and grades from 0 to 3, one relevant at least."""
    chance = random.Random(seed)
    ids = [f"d{number}" for number in range(40)]
    run, grades = {}, {}
    for question in map(str, range(QUESTIONS)):
        run[question] = {found: chance.randrange(5) / 4 for found in chance.sample(ids, chance.randint(1, 30))}
        judged = chance.sample(ids, chance.randint(1, 20))
        grades[question] = {passage: chance.choice([0, 0, 1, 2, 3]) for passage in judged} | {judged[0]: 1}
    return run, grades


def _ordered(scored: dict[str, float]) -> list[str]:
    """Return the ids in trec_eval's order: score, then id, both descending."""
    return sorted(scored, key=lambda passage: (scored[passage], passage), reverse=True)


@pytest.mark.parametrize("k", [1, 3, 10, 100])
@pytest.mark.parametrize(("kind", "measure"), [("nDCG", "ndcg_cut_{}"), ("Recall", "recall_{}"), ("MRR", "recip_rank")])
@pytest.mark.parametrize("seed", [1, 2])
def test_scores_equal_trec_eval_on_runs_with_ties(kind, measure, k, seed):
    measure = measure.format(k)
    run, grades = _runs_with_ties(seed)
    rankings = {question: _ordered(scored) for question, scored in run.items()}
    cut = {question: {found: run[question][found] for found in rankings[question][:k]} for question in run}
    theirs = pytrec_eval.RelevanceEvaluator(grades, {measure}).evaluate(cut)

    ours = Metric.read(f"{kind}@{k}").score(list(rankings.values()), [grades[question] for question in rankings])

    assert ours == pytest.approx([theirs[question][measure] for question in rankings], abs=1e-12)
    assert all(0 <= score <= 1 for score in ours)
    assert 0 < sum(ours) < QUESTIONS
