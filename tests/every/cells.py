"""Every method on every task and kind of network: what each is tried with, and which of them are refused.

Methods and tasks are found by their files. A new one is tried at once, with the settings it ships; where a network of
random weights needs others to learn in a few steps, they stand here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import tiny
from burnish.choice_rows import Choice
from burnish.methods import Method
from burnish.preference_rows import Preference
from burnish.records import Completion, Document, Extraction, Labelled, Pair, Prompt, Question, Record, Scored, Span
from burnish.tasks import Built, Task
from burnish.train.check import require_trainable
from every.backbones import has_animal, named_twice
from learn import fit_items, summed

BACKBONES = ("bert", "llama", "t5")
NEAR_ZERO = 0.05  # nats a unit, or squared standard deviations
STEPS = 24

METHODS: dict[str, dict[str, Any]] = {
    "adapters": {"learning_rate": 2e-2, "reduction": 1},
    "bitfit": {"learning_rate": 5e-2},
    "full": {"learning_rate": 5e-3},
    "head": {"learning_rate": 2e-1},
    "ia3": {"learning_rate": 1e-1},
    "lora": {"learning_rate": 1e-2, "rank": 8},
    "prefix": {"learning_rate": 0.6, "length": 8},
    "prompt": {"learning_rate": 0.6, "length": 24},
}
TASKS: dict[str, dict[str, Any]] = {
    "extract": {"max_tokens": 24, "overlap": 4, "question_tokens": 8},
    "generate": {"metrics": ["exact_match", "perplexity"], "max_new_tokens": 4},
    "late": {
        "loss": {"kind": "contrastive", "temperature": 0.1},
        "query_tokens": 16,
        "passage_tokens": 24,
        "width": 16,
    },
    "prefer": {"loss": {"kind": "dpo", "beta": 1.0}},
    "pretrain": {"block_tokens": 12},
    "rag": {
        "loss": "rag_sequence",
        "passages": "{beside}/passages.jsonl",
        "retriever": "{beside}/bert",
        "retriever_method": {"kind": "full", "learning_rate": 1e-3},
        "prompt": {"instruction": "", "passages": 1, "passage_words": 8},
        "top_k": 2,
        "query_tokens": 16,
        "passage_tokens": 16,
        "max_new_tokens": 4,
        "metrics": ["exact_match", "token_f1"],  # the passages do not say the answers
    },
    "reinforce": {
        "rewards": [{"kind": "metric", "metric": "token_f1"}],
        "metrics": ["token_f1"],
        "loss": {"kl": 0.0},
        "samples": 6,
        "max_new_tokens": 2,
    },
    "rerank": {"max_tokens": 48},
    "retrieve": {"query_tokens": 16, "passage_tokens": 24},
    "reward": {"loss": {"center": 0.01}},  # without a centre a head's bias is free
}


class Cell(NamedTuple):
    """A method on a task and a kind of network."""

    method: str
    task: str
    backbone: str

    @property
    def name(self) -> str:
        """What tables of this file call it."""
        return "-".join(self)

    @property
    def base(self) -> str:
        """Which of the networks it begins from."""
        headed = ("classify", "regress", "rerank", "reward")
        return "t5, random" if self.backbone == "t5" and self.task in headed else self.backbone

    def entry(self, table: Iterable[str]) -> str | None:
        """Return the first pattern of a table that fits the cell's name."""
        return next((pattern for pattern in table if fnmatchcase(self.name, pattern)), None)


# Which cells want another rate than the rest of their method.
RATES = {
    "adapters-pretrain-bert": 5e-3,
    "bitfit-regress-bert": 2e-2,
    "full-pretrain-*": 1e-2,
    "head-[cr]*-bert": 5e-2,
    "head-extract-bert": 0.5,
    "head-extract-t5": 1.0,
    "ia3-fewshot-t5": 0.6,
    "ia3-generate-t5": 0.6,
    "ia3-pretrain-bert": 5e-2,
    "ia3-rag-t5": 0.6,
    "ia3-retrieve-*": 0.3,
    "lora-pretrain-bert": 5e-3,
    "prefix-[cr]*-bert": 5e-2,
    "prefix-[cr]*-llama": 0.1,
    "prefix-*-bert": 0.1,
    "prefix-fewshot-llama": 0.3,
    "prefix-*-t5": 0.3,
    "prompt-*-bert": 2e-2,
    "prompt-*-llama": 0.1,
    "prompt-generate-t5": 0.3,
}
# Which cells need more steps than others to come near zero.
MORE_STEPS = {
    "*-pretrain-bert": 200,
    "adapters-*": 80,
    "bitfit-[er]*-bert": 40,
    "full-generate-*": 32,
    "full-pretrain-*": 40,
    "head-extract-t5": 250,
    "head-reward-*": 80,
    "head-[cr]*": 36,
    "ia3-fewshot-t5": 150,
    "ia3-fewshot-*": 60,
    "ia3-reward-t5": 160,
    "ia3-[gp]*": 60,
    "ia3-rag-*": 60,
    "lora-pretrain-*": 40,
    "prefix-fewshot-*": 80,
    "prefix-rag-t5": 90,
    "prefix-rag-*": 60,
    "prefix-reward-t5": 160,
    "prefix-[er]*-t5": 40,
    "prefix-[gp]*": 300,
    "prefix-[cr]*-bert": 40,
    "prompt-*-bert": 56,
    "prompt-fewshot-*": 80,
    "prompt-generate-t5": 480,
    "prompt-rag-llama": 60,
    "prompt-[gp]*": 400,
}
# Which cells learn, and in more steps than a test has time for (prompt-rag-t5: .065 after 500, prompt-fewshot-t5: .086
# after 300).
LEARNS_SLOWLY = ("*-reinforce-t5", "p*-reinforce-llama", "prompt-fewshot-t5", "prompt-rag-t5")
# Which cells are refused, and what is said.
_NO_BIAS = r"method bitfit trains bias terms, and \w+ has no biases\. Use lora or full"
_NO_HEAD = r"method head trains a new or separate output layer, and \w+ has none here .* Use lora or full"
_NO_PLACE = r"method prompt puts soft tokens before the text of .*, and \w+ is none of them\. Use lora or full"
_LOST_END = r"method prompt: \w+ looks for the end of the text in its token ids, which soft tokens take away\. Use lora"
REFUSED = {
    "*-extract-llama": r"LlamaForQuestionAnswering finds none of its base there; use an encoder or an encoder-decoder",
    "*-fewshot-bert": r"this is an encoder \(bert\), which sees what stands behind each place; use a decoder or",
    "*-generate-bert": r"this is an encoder \(bert\), which sees what stands behind each place; use a decoder or",
    "*-late-t5": r"a text encoder is needed, and this is an encoder-decoder \(t5\)",
    "*-prefer-bert": r"this is an encoder \(bert\), which sees what stands behind each place; use a decoder or",
    "*-retrieve-t5": r"a text encoder is needed, and this is an encoder-decoder \(t5\)",
    "*-rag-bert": r"this is an encoder \(bert\), which sees what stands behind each place; use a decoder or",
    "*-reinforce-bert": r"this is an encoder \(bert\), which sees what stands behind each place; use a decoder or",
    "adapters-late-*": r"method adapters: LateEncoder is saved for other libraries, which know no such layers",
    "adapters-retrieve-*": r"method adapters: Encoder is saved for other libraries, which know no such layers",
    "bitfit-*-llama": _NO_BIAS,
    "bitfit-*-t5": _NO_BIAS,
    "head-fewshot-*": _NO_HEAD,
    "head-generate-*": _NO_HEAD,
    "head-prefer-*": _NO_HEAD,
    "head-pretrain-*": _NO_HEAD,
    "head-rag-*": _NO_HEAD,
    "head-reinforce-*": _NO_HEAD,
    "head-retrieve-*": _NO_HEAD,
    "prefix-late-*": r"method prefix: LateEncoder is saved for other libraries, which put nothing before",
    "prefix-retrieve-*": r"method prefix: Encoder is saved for other libraries, which put nothing before",
    "prompt-classify-llama": _LOST_END,
    "prompt-classify-t5": _LOST_END,
    "prompt-extract-*": _NO_PLACE,
    "prompt-late-*": _NO_PLACE,
    "prompt-pretrain-bert": _NO_PLACE,
    "prompt-regress-llama": _LOST_END,
    "prompt-regress-t5": _LOST_END,
    "prompt-rerank-llama": _LOST_END,
    "prompt-rerank-t5": _LOST_END,
    "prompt-reward-llama": _LOST_END,
    "prompt-reward-t5": _LOST_END,
    "prompt-retrieve-*": _NO_PLACE,
}
CELLS = [Cell(method, task, backbone) for task in Task.names() for method in Method.names() for backbone in BACKBONES]


@dataclass(frozen=True)
class Applied:
    """A cell before its first step."""

    task: Task
    rows: Sequence[Any]
    method: Method
    built: Built
    model: nn.Module
    parameters: int  # of the network before anything was added to it


@dataclass(frozen=True)
class Trained(Applied):
    """A cell that has learned eight rows, and is saved."""

    trainable: int
    sums: dict[int, tuple[float, int, Tensor]]  # by size of a micro-batch: loss, units and gradient of four rows
    idle: list[str]  # trainable weights without a gradient
    stray: list[str]  # frozen weights with one
    losses: list[float]
    predictions: dict[str, list[Any]]  # by kind
    folder: Path
    base: Path


def apply_cell(cell: Cell, base: Path) -> Applied:
    """Build the cell's task on the network, and put the method on it."""
    task = task_of(cell.task, base)
    rate = cell.entry(RATES)
    settings = METHODS.get(cell.method, {}) | ({"learning_rate": RATES[rate]} if rate else {})
    method: Method = Method.read({"kind": cell.method, **settings})
    rows = rows_of(task.record)
    task = task.settled(rows)
    torch.manual_seed(0)
    built = task.build(str(base))
    parameters = sum(weight.numel() for weight in built.model.parameters())
    method = task.adapted_by(method)
    return Applied(task, rows, method, built, method.apply(built.model, fresh=built.fresh), parameters)


def task_of(kind: str, base: Path) -> Task:
    """Return a task with its settings here; beside the network lie what it reads."""
    settings = {
        name: value.format(beside=base.parent) if isinstance(value, str) else value
        for name, value in TASKS.get(kind, {}).items()
    }
    task: Task = Task.read({"kind": kind, **settings})
    return task


def train_cell(cell: Cell, base: Path, folder: Path) -> Trained:
    """Train the cell on its eight rows, note all that is to be checked, and save it."""
    applied = apply_cell(cell, base)
    task, model = applied.task, applied.model
    trainable, _ = require_trainable(model, applied.method)
    items = task.encode(applied.rows, applied.built).items
    task.prepare(model, items, cache=folder / "cache", progress=lambda *_: None)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:  # what starts at zero hides another weight's gradient
                weight.add_(torch.randn_like(weight), alpha=0.01)
    sampler = task.sampler(model, applied.built, items, seed=0)
    some = sampler(0, range(4)) if sampler else items[:4]
    sums = {size: summed(task, model, some, size=size) for size in ((1, 2, 4) if task.divisible else (4,))}
    weights = [
        (name, weight, weight.grad is not None and weight.grad.any()) for name, weight in model.named_parameters()
    ]
    model.zero_grad()
    more = cell.entry(MORE_STEPS)
    epochs = MORE_STEPS[more] if more else STEPS
    losses = fit_items(
        task, model, items, folder, method=applied.method, fresh=applied.built.fresh, epochs=epochs, sampler=sampler
    )
    kinds = dict.fromkeys(metric.reads for metric in task.metrics)
    said = {
        reads: task.predictions(model, applied.built, applied.rows, reads=reads, progress=lambda *_: None)
        for reads in kinds
    }
    task.save(model, applied.built, folder / "model")
    return Trained(
        **vars(applied),
        trainable=trainable,
        sums=sums,
        idle=[name for name, weight, moved in weights if weight.requires_grad and not moved],
        stray=[name for name, weight, moved in weights if moved and not weight.requires_grad],
        losses=losses,
        predictions=said,
        folder=folder / "model",
        base=base,
    )


def assert_same(ours: Any, theirs: Any) -> None:
    """Check that predictions are equal, numbers but for rounding."""
    if isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    else:
        assert ours == theirs


def rows_of(record: type[Record]) -> list[Any]:
    """Return eight rows with a rule in them that a small network of random weights can learn.

    Raises:
        KeyError: nobody has written rows of this record yet.
    """
    makers: dict[type[Record], Callable[[], Iterable[Any]]] = {
        Completion: _completions,
        Document: _documents,
        Extraction: _extractions,
        Labelled: _labelled,
        Choice: _choices,
        Preference: _preferences,
        Prompt: _prompts,
        Question: _questions,
        Pair: lambda: tiny.pairs(8, longest=4),
        Scored: _scored,
    }
    if record not in makers:
        raise KeyError(f"a task reads {record.__name__} rows: add eight of them to {Path(__file__).name}")
    return [*makers[record]()]


TEXTS = ("red", "the cat", "is green", "a bird and fish", "blue one two", "dog", "where is the red", "one fish")
COLOURS = ("red", "green", "blue")


def _labelled() -> Iterator[Labelled]:
    for text in TEXTS:
        yield Labelled(id=text, text=text, label="animal" if has_animal(text) else "colour")


def _scored() -> Iterator[Scored]:
    for number, text in enumerate(TEXTS):
        yield Scored(id=text, text=text, score=5.0 * (number * 5 % 8) - 20)


def _completions() -> Iterator[Completion]:
    for text in TEXTS:
        yield Completion(id=text, prompt=f"{text} ?", completion="yes" if has_animal(text) else "no")


def _prompts() -> Iterator[Prompt]:
    for row in _completions():
        yield Prompt(id=row.id, prompt=row.prompt, answers=(row.completion,))


def _questions() -> Iterator[Question]:
    for text in TEXTS:
        yield Question(id=text, question=f"{text} ?", answers=("yes" if has_animal(text) else "no",))


def _choices() -> Iterator[Choice]:
    for text in TEXTS:
        yield Choice(id=text, prompt=f"{text} ?", choices=("yes", "no"), answer="yes" if has_animal(text) else "no")


def _preferences() -> Iterator[Preference]:
    for text in TEXTS:
        right, wrong = ("yes", "no") if has_animal(text) else ("no", "yes")
        yield Preference(id=text, prompt=f"{text} ?", chosen=right, rejected=wrong)


def _extractions() -> Iterator[Extraction]:
    """The colour is the answer; where there is none, there is no answer."""
    for text in TEXTS:
        context = f"the {text} and"
        found = [Span(text=colour, start=context.index(colour)) for colour in COLOURS if colour in context]
        yield Extraction(id=text, question="what", context=context, answers=tuple(found))


def _documents() -> Iterator[Document]:
    """A word, named twice."""
    for word in ("file", "list", "open", "close", "question", "left", "not", "right"):
        yield Document(id=word, text=named_twice(word, word))
