"""Rules: from what a table holds to the settings of a recipe, each with its reason.

1. The task follows from the record. A row with a list of labels makes all rows ones of any number of labels.
2. Classes whose sizes differ by 3 or more are weighed by their rarity and watched by macro F1, so that a rare class
   counts as much as a frequent one. Below that, weights move little and cost some accuracy on the large classes.
3. A text is read up to the 99th percentile of the lengths, so that padding and memory follow the texts at hand; a
   writer's rows are read whole up to the longest, since half an answer teaches to stop anywhere.
4. Under 50 training rows the head alone is trained: it is a linear probe, and whatever else moved would fit single
   rows. Under 200, LoRA, which moves few weights and is less apt to lose what the model knew (Biderman et al. 2024,
   arXiv 2405.09673). Above, every weight of an encoder. A writer of chats gets LoRA, which ends where full
   fine-tuning does on small sets, at a fraction of the memory ("LoRA Without Regret", Thinking Machines 2025);
   one that reads on in documents is trained in full, where LoRA falls behind (Biderman et al.).
5. The learning rate is the one that ships with the method, since no rate suits two of them; for preferences a tenth of
   it, since they correct what right answers have taught.
6. The batch is 32, for a writer 16 (LoRA suffers from large ones), for a retriever 64, whose negatives come from the
   batch; and halved, down to 8, until an epoch has 10 steps.
7. Epochs: 3 as in BERT (Devlin et al. 2019), and as many more, up to 20, as 300 steps take: small sets need the
   steps more than they suffer from the repetition (Mosbach et al. 2021, arXiv 2006.04884). Where there is no new
   head to be learned, 2 to 5; with preferences 1 to 3. With more than 3, the run ends after 3 dev scores in a row
   without a better one.
8. One row in ten to score while training and one in ten to test on; under 1,000 rows one in five each, since the
   interval of few test rows is too wide to tell anything.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from burnish.methods import Method
from burnish.preference_rows import Preference
from burnish.records import Completion, Document, Extraction, Labelled, Pair, Record, Scored
from burnish.train.batches import step_count

UNBALANCED = 3.0
HEAD_ROWS, FEW_ROWS, SMALL_SET = 50, 200, 1000
STEPS, EPOCHS = 300, 20
PATIENCE = 3
BLOCK_TOKENS = 512
TEMPLATE = 64  # tokens that a chat template may add to a row

_KINDS: dict[type[Record], str] = {
    Labelled: "classify",
    Scored: "regress",
    Extraction: "extract",
    Pair: "retrieve",
    Completion: "generate",
    Preference: "prefer",
    Document: "pretrain",
}
_NEW_HEAD = (Labelled, Scored, Extraction)


class Setting(NamedTuple):
    """A key of the recipe, its value, and why."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of the texts, in tokens with special ones."""

    median: int
    nearly_all: int  # the 99th percentile
    longest: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules read: rows to train on, tokens of each kind of text, of an epoch, and that the model reads."""

    record: type[Record]
    rows: int
    many: bool
    unbalance: float
    lengths: Mapping[str, Lengths]
    tokens: int
    room: int


def shares(rows: int) -> dict[str, float]:
    """Return the share of each side (rule 8)."""
    held_out = 0.2 if rows < SMALL_SET else 0.1
    return {"train": 1 - 2 * held_out, "dev": held_out, "test": held_out}


def task_metric(record: type[Record], *, many: bool, unbalance: float) -> Any:
    """Return the metric by which the models and the training are judged, as a recipe has it (rule 2)."""
    if record is Labelled:
        if many:
            return {"kind": "f1", "average": "micro"}
        return {"kind": "f1", "average": "macro"} if unbalance >= UNBALANCED else "accuracy"
    return "spearman" if record is Scored else "nDCG@10"


def decide(facts: Facts) -> list[Setting]:
    """Return task, method and training."""
    task, why = _task(facts)
    method, because = _method(facts)
    return [Setting("task", task, why), Setting("method", method, because), _training(facts)]


def _task(facts: Facts) -> tuple[dict[str, Any], str]:
    """Return the task by the record, read as far as texts go (rules 1 to 3)."""
    kind, record = _KINDS[facts.record], facts.record
    if record is Extraction:
        return {"kind": kind, **_windows(facts.room)}, "a question and its answer's place in a context"
    if record is Document:
        block = min(BLOCK_TOKENS, facts.room)
        return {"kind": kind, "block_tokens": block}, "texts alone: the model reads on in them"
    if record is Pair:
        queries, passages = (_rounded(facts.lengths[name].nearly_all, facts.room) for name in ("query", "passage"))
        why = f"queries and passages; 99 % have up to {queries} and {passages} tokens"
        return {"kind": kind, "query_tokens": queries, "passage_tokens": passages}, why
    text = facts.lengths["text"]
    if record in (Completion, Preference):
        most = _rounded(text.longest + TEMPLATE, facts.room)
        why = "prompts with completions" if record is Completion else "prompts with a better and a worse answer"
        return {"kind": kind, "max_tokens": most}, f"{why}, of up to {text.longest} tokens"
    most = _rounded(text.nearly_all, facts.room)
    task: dict[str, Any] = {"kind": kind, "max_tokens": most}
    why = f"99 % of the texts have up to {text.nearly_all} tokens"
    if record is Labelled and facts.many:
        task["many"] = True
        why += "; a text may have any number of labels"
    if record is Labelled and facts.unbalance >= UNBALANCED:
        why += f"; the largest class has {facts.unbalance:.1f} times the rows of the smallest, so rare ones weigh more"
        if facts.many:
            task["loss"] = {"kind": "binary", "positive_weights": "balanced"}
        else:
            task["loss"] = {"kind": "cross_entropy", "class_weights": "balanced"}
            task["metrics"] = [{"kind": "f1", "average": "macro"}, "accuracy"]
    return task, why


def _method(facts: Facts) -> tuple[dict[str, Any], str]:
    """Return the method with its own rate (rules 4 and 5)."""
    name, why = "full", f"{facts.rows:,} rows are enough to move every weight"
    if facts.record is Document:
        why = "new texts are learned better by all weights than by LoRA's few"
    elif facts.record in (Completion, Preference):
        name, why = "lora", "ends where full fine-tuning does on sets of this kind, at a fraction of the memory"
    elif facts.rows < HEAD_ROWS and facts.record in _NEW_HEAD:
        name, why = "head", f"{facts.rows} rows would be learned by heart by any weight but the head's"
    elif facts.rows < FEW_ROWS:
        name, why = "lora", f"{facts.rows} rows: few weights move, and the model keeps what it knew"
    rate: float = Method.read(name).learning_rate
    if facts.record is Preference:
        return {"kind": name, "learning_rate": rate / 10}, f"{why}; a tenth of {name}'s own rate"
    return {"kind": name, "learning_rate": rate}, f"{why}; the rate is {name}'s own"


def _training(facts: Facts) -> Setting:
    """Return batch, epochs and early stopping (rules 6 and 7)."""
    items = max(1, facts.tokens // min(BLOCK_TOKENS, facts.room)) if facts.record is Document else facts.rows
    batch = {Completion: 16, Preference: 16, Document: 16, Pair: 64}.get(facts.record, 32)
    while batch > 8 and step_count(items, batch=batch, epochs=1) < 10:
        batch //= 2
    steps = step_count(items, batch=batch, epochs=1)
    fewest, most = (3, EPOCHS) if facts.record in _NEW_HEAD else (1, 3) if facts.record is Preference else (2, 5)
    epochs = min(most, max(fewest, math.ceil(STEPS / steps)))
    training: dict[str, Any] = {"epochs": epochs, "batch": batch}
    why = f"an epoch has {steps} steps; {epochs} epochs make {steps * epochs:,}"
    if epochs > PATIENCE:
        training |= {"evaluations": min(epochs, 10), "patience": PATIENCE}
        why += f", and the run ends after {PATIENCE} dev scores in a row without a better one"
    return Setting("training", training, why)


def _windows(room: int) -> dict[str, int]:
    """Return the windows of a model that reads fewer tokens than the task's own take; else nothing."""
    return {} if room >= 384 else {"max_tokens": room, "overlap": room // 4, "question_tokens": room // 4}


def _rounded(tokens: int, room: int) -> int:
    """Return a length as the next multiple of 8, within what the model reads."""
    return min(room, max(16, math.ceil(tokens / 8) * 8))


def lengths(tokens: Sequence[int]) -> Lengths:
    """Return median, 99th percentile and maximum; tokens: of each text, at least one."""
    ordered = sorted(tokens)
    return Lengths(ordered[len(ordered) // 2], ordered[math.ceil(0.99 * len(ordered)) - 1], ordered[-1])
