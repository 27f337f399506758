"""What is decided from what a table holds, rule by rule."""

from typing import Any

import pytest

from burnish.methods import Method
from burnish.recipe import Recipe
from burnish.records import Completion, Document, Extraction, Labelled, Pair, Record, Scored
from burnish.steps.rules import Facts, Lengths, decide, lengths, shares, task_metric


def decided(record: type[Record], **changes: Any) -> dict[str, Any]:
    """Return the settings by key, after checking that they make a recipe."""
    plain: dict[str, Any] = {
        "record": record,
        "rows": 1000,
        "many": False,
        "unbalance": 1.2,
        "lengths": {name: Lengths(12, 30, 90) for name in ("text", "query", "passage")},
        "tokens": 12_000,
        "room": 512,
    }
    settings = decide(Facts(**{**plain, **changes}))
    assert all(setting.reason for setting in settings)
    found = {setting.key: setting.value for setting in settings}
    recipe = Recipe.model_validate({**found, "model": "x", "data": {"train": "x"}})
    assert recipe.task.record is record
    return found


@pytest.mark.parametrize(
    ("record", "task"),
    [
        (Labelled, {"kind": "classify", "max_tokens": 32}),
        (Scored, {"kind": "regress", "max_tokens": 32}),
        (Pair, {"kind": "retrieve", "query_tokens": 32, "passage_tokens": 32}),
        (Completion, {"kind": "generate", "max_tokens": 160}),
        (Extraction, {"kind": "extract"}),
        (Document, {"kind": "pretrain", "block_tokens": 512}),
    ],
)
def test_the_task_follows_from_the_record_and_reads_as_far_as_the_texts_go(record: type[Record], task: dict[str, Any]):
    assert decided(record)["task"] == task


@pytest.mark.parametrize("record", [Labelled, Scored, Pair, Completion, Extraction, Document])
def test_no_more_is_read_than_the_model_can(record: type[Record]):
    task = decided(record, room=24)["task"]
    assert max(value for value in task.values() if isinstance(value, int)) <= 24


def test_unequal_classes_are_weighed_and_watched_by_macro_f1():
    assert "loss" not in decided(Labelled, unbalance=2.9)["task"]
    task = decided(Labelled, unbalance=3.0)["task"]
    assert task["loss"] == {"kind": "cross_entropy", "class_weights": "balanced"}
    assert task["metrics"][0] == task_metric(Labelled, many=False, unbalance=3.0)
    task = decided(Labelled, unbalance=9.0, many=True)["task"]
    assert task["loss"] == {"kind": "binary", "positive_weights": "balanced"}
    assert task["many"] is True


@pytest.mark.parametrize(
    ("record", "rows", "method"),
    [
        (Labelled, 49, "head"),
        (Labelled, 50, "lora"),
        (Scored, 199, "lora"),
        (Extraction, 200, "full"),
        (Pair, 49, "lora"),
        (Pair, 200, "full"),
        (Completion, 10, "lora"),
        (Completion, 100_000, "lora"),
        (Document, 10, "full"),
    ],
)
def test_few_rows_move_few_weights_at_the_methods_own_rate(record: type[Record], rows: int, method: str):
    found = decided(record, rows=rows)["method"]
    assert found == {"kind": method, "learning_rate": Method.read(method).learning_rate}


@pytest.mark.parametrize(
    ("record", "rows", "training"),
    [
        (Labelled, 30, {"epochs": 20, "batch": 8, "evaluations": 10, "patience": 3}),
        (Labelled, 1000, {"epochs": 10, "batch": 32, "evaluations": 10, "patience": 3}),
        (Labelled, 100_000, {"epochs": 3, "batch": 32}),
        (Completion, 1000, {"epochs": 5, "batch": 16, "evaluations": 5, "patience": 3}),
        (Pair, 10_000, {"epochs": 2, "batch": 64}),
    ],
)
def test_small_sets_get_more_epochs_and_stop_early(record: type[Record], rows: int, training: dict[str, Any]):
    assert decided(record, rows=rows)["training"] == training


def test_documents_are_counted_in_blocks():
    assert decided(Document, rows=5, tokens=512 * 3200)["training"] == {"epochs": 2, "batch": 16}


def test_small_tables_keep_more_rows_to_measure_on():
    assert shares(999) == pytest.approx({"train": 0.6, "dev": 0.2, "test": 0.2})
    assert shares(1000) == pytest.approx({"train": 0.8, "dev": 0.1, "test": 0.1})


def test_lengths_are_median_99th_percentile_and_maximum():
    assert lengths(range(1, 101)) == Lengths(51, 99, 100)
    assert lengths([7]) == Lengths(7, 7, 7)
