"""The report of one training run, from a folder written by hand."""

import re
from pathlib import Path

import pytest

from burnish.errors import RunError
from burnish.evaluation.folder import DevLine, LossLine, Training
from burnish.evaluation.run_report import course_words, flat_words, headline, policy_courses, write_run_report
from burnish.run import Run, write_json

EVIL = "<script>alert(1)</script>"
SCORE = {"value": 0.9, "low": 0.85, "high": 0.94, "n": 40}


def training(*dev: float) -> Training:
    log = [LossLine(step=step, of=len(dev), loss=1 / step) for step in range(1, len(dev) + 1)]
    return Training("t", log, [DevLine(step=at, metric="accuracy", value=v) for at, v in enumerate(dev, start=1)])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    recipe = f"task:\n  kind: classify\n  labels: ['{EVIL}', b]\nmodel: embedded/minilm\nmethod: {{kind: lora}}\n"
    run = Run.create(tmp_path / "r1", recipe=recipe, manifest={"seed": 3, "rows": 100})
    for step in (1, 2):
        run.append("log.jsonl", {"step": step, "of": 2, "loss": 1 / step, "grad_norm": 1.0, "lr": 1e-4, "units": 8})
        run.append("clock.jsonl", {"step": step, "seconds": 2.0, "tokens": 80})
        run.append("dev.jsonl", {"step": step, "metric": "accuracy", "value": 0.4 * step})
    return run


def finish(run: Run) -> None:
    run.finish(trainable=10, parameters=1000, notes={EVIL: 3}, steps=2, stopped_early="")


def test_the_page_shows_scores_costs_and_recipe_and_escapes_what_it_is_given(run: Run):
    gain = {"accuracy": {"difference": 0.2, "low": 0.1, "high": 0.3, "p": 0.001, "wins": 9, "ties": 30, "losses": 1}}
    found = {"data": EVIL, "against": "base", "n": 40, "scores": {"accuracy": SCORE}, "gain": gain}
    write_json(run.folder / "evaluation" / "test.json", {**found, "before": {"accuracy": {**SCORE, "value": 0.7}}})
    write_json(run.folder / "evaluation" / "general.json", {"before": 1, "after": 2})  # of another shape: not shown
    finish(run)
    page = write_run_report(run.folder).read_text()
    assert "accuracy 0.900 [0.850, 0.940] on 40 rows, +0.200 against base (p 0.001)." in page
    assert "4 s" in page
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "<svg" in page
    assert write_run_report(run.folder).read_text() == page


def rewarded(steps: int, *parts: str) -> list[dict[str, float]]:
    """Return a log as a model that is trained by reward leaves it."""
    more = {f"reward/{part}": 0.5 for part in parts}
    facts = {"kl": 0.01, "entropy": 2.0, "length": 7.0, "flat": 0.25, "drawn": 1.5} | more
    return [{"step": n, "of": steps, "loss": 0.0, "reward": n / steps} | facts for n in range(1, steps + 1)]


def test_a_model_trained_by_reward_is_shown_by_what_it_wrote(run: Run):
    for line in rewarded(40, "exact match", EVIL)[2:]:
        run.append("log.jsonl", line)
    run.rewind(0)
    for line in rewarded(40, "exact match", EVIL):
        run.append("log.jsonl", line)
    finish(run)
    page = write_run_report(run.folder).read_text()
    for words in ("reward a text", "exact match alone", "KL to the model as it was", "tokens a text", "entropy, nats"):
        assert words in page
    assert "worth the same in 25% of the groups" in page
    assert "1.50 texts were drawn for each" in page
    assert EVIL not in page


def test_curves_are_those_that_the_log_has():
    assert policy_courses([]) == policy_courses([{"step": 1, "loss": 1.0}]) == []
    alone = policy_courses(rewarded(3, "pattern"))
    assert [title.split(",")[0] for title, _ in alone] == [
        "reward a text",
        "KL to the model as it was",
        "tokens a text",
        "entropy",
    ]
    assert alone[0][1] == [1 / 3, 2 / 3, 1.0]
    without = [{key: value for key, value in line.items() if key != "kl"} for line in rewarded(3, "a", "b")]
    assert len(policy_courses(without)) == 5
    assert flat_words([{"loss": 1.0}]) == ""
    assert "In 2 of 2 steps no group taught anything" in flat_words([{"flat": 1.0, "drawn": 2.0}] * 2)


def test_a_run_without_test_rows_says_so(run: Run):
    finish(run)
    assert "the recipe names no test rows" in write_run_report(run.folder).read_text()
    assert headline([], "classify").startswith("A model for classify, trained;")


def test_an_unfinished_run_has_no_report(run: Run):
    with pytest.raises(RunError, match="is not finished; `burnish resume"):
        write_run_report(run.folder)


@pytest.mark.parametrize(
    ("dev", "stopped", "said"),
    [
        ((0.5, 0.9, 0.7), "", "best at step 2 (0.900) and 0.700 at the end: from there on it overfits"),
        ((0.5, 0.6, 0.7), "", "best at the last step (0.700): more steps may help"),
        ((0.5, 0.7, 0.7), "", "did not rise any more after step 2"),
        ((0.5, 0.4), "stopped after step 2", "Stopped after step 2. The dev score was best at step 1"),
        ((0.5,), "", "scored less than twice"),
    ],
)
def test_the_curves_are_put_into_words(dev: tuple[float, ...], stopped: str, said: str):
    assert said in course_words(training(*dev), stopped)
