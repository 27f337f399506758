"""What training cost a model: general texts, read by the model as it was and as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from burnish.errors import DataError
from burnish.evaluation.corpus import metric_difference, metric_interval
from burnish.evaluation.score import TINY, Interval
from burnish.metrics import Floats, Metric
from burnish.metrics.perplexity import Perplexity
from burnish.models.packing import micro_batches
from burnish.models.padding import longest_input, network_inputs, pad_right
from burnish.models.precision import chosen_dtype
from burnish.models.reading import Kind, reading_of
from burnish.models.topk import top_k
from burnish.models.towers import BiEncoder
from burnish.records import Document
from burnish.retrievers import Progress
from burnish.tasks import Built, Task
from burnish.tasks.generate import Generate
from burnish.tasks.pretrain import Pretrain

Way: TypeAlias = Literal["perplexity", "drift", "neighbours"]

LONGEST = 512  # tokens of a document that are read at once, where the model reads as many
FEWEST = 2  # documents, or groups of them: one tells nothing about others
NEIGHBOURS = 10
PASS_TOKENS = 4096  # padded tokens of one forward pass


@dataclass(frozen=True, slots=True)
class Seen:
    """What one model makes of the general texts.

    likelihoods: of a model that writes or guesses, each document's negative log-likelihood in nats and its tokens.
    vectors: of another, (documents, width), unit length: what it makes of each document.
    """

    likelihoods: Sequence[tuple[float, int]] = ()
    vectors: Tensor | None = None


def require_general(task: Task, built: Built, rows: Sequence[Document]) -> None:
    """Check before training that the general texts can be scored after it.

    Raises:
        DataError: there are fewer than two, or they are of one group.
        ModelError: the model's tokenizer lacks what its way of reading needs.
    """
    texts = {row.text: row.group or row.id for row in rows if row.text.strip()}
    if len(groups := set(texts.values())) < FEWEST:
        raise DataError(
            f"data.general: {len(rows)} documents, {len(texts)} of them different and not empty, in {len(groups)} "
            f"groups; an interval needs at least {FEWEST}"
        )
    if _way(task, built) == "perplexity":
        reading_of(built.model, built.tokenizer, _room(built))


def forgetting(
    task: Task, base: str, trained: str, rows: Sequence[Document], *, seed: int, progress: Progress
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what `evaluation/general.json` holds, and a line for each document.

    base, trained: names of the two models. A model that writes, or guesses hidden tokens, is scored by the perplexity
    of the documents, read in pieces of up to 512 tokens; an encoder with a new head by the mean cosine between what
    the two make of a document, the mean of its last hidden states; a retriever by the cosine of its passages' vectors,
    and by how many of a document's ten nearest others are the same. Documents without a token are left out, and
    counted.
    """
    built = _loaded(task, base, seed=seed)
    way = _way(task, built)
    facts: dict[str, Any] = {"measure": way, "seed": seed}
    if way == "perplexity":
        facts |= {"reads": _kind(built), "block_tokens": _room(built)}
    before = _seen(way, built, rows, progress=progress)
    del built  # one model at a time
    after = _seen(way, _loaded(task, trained, seed=seed), rows, progress=progress)
    if way == "perplexity":
        return _compared(before, after, rows, facts)
    return _drifted(before, after, rows, facts, neighbours=way == "neighbours")


def sentence(found: Mapping[str, Any]) -> str:
    """Return in one sentence what `forgetting` found."""
    if found["measure"] == "perplexity":
        what = "perplexity of general text" + (", of its hidden tokens" if found["reads"] == "masked" else "")
        change = found["change"]
        bounds = ", ".join(f"{100 * change[bound]:.1f}" for bound in ("low", "high"))
        moved = f"{100 * change['value']:+.1f} % [{bounds}]"
        return f"{what}: {found['before']['value']:.4g} → {found['after']['value']:.4g} ({moved})"
    said = f"general text: mean cosine of {_bounded(found['scores']['cosine'])} to what the base makes of it"
    same = found["scores"].get(f"overlap@{NEIGHBOURS}")
    return said + (f"; of {NEIGHBOURS} nearest documents {_bounded(same)} stay" if same else "")


def _bounded(score: Mapping[str, float]) -> str:
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def _way(task: Task, built: Built) -> Way:
    """Return how a task's model is watched; what a new head says untrained is nothing to be forgotten."""
    if isinstance(built.model, BiEncoder):
        return "neighbours"
    return "perplexity" if isinstance(task, Generate | Pretrain) and not built.fresh else "drift"


def _kind(built: Built) -> Kind:
    return reading_of(built.model, built.tokenizer, _room(built)).kind


def _room(built: Built) -> int:
    """Return how many tokens of a document are read at once."""
    return min(LONGEST, longest_input(built.model, built.tokenizer))


def _loaded(task: Task, name: str, *, seed: int) -> Built:
    """Load a model in the number format that suits this chip."""
    built = task.build(name, seed=seed)
    for weight in built.model.parameters():
        weight.data = weight.data.to(chosen_dtype())
    built.model.eval()
    return built


@torch.inference_mode()
def _seen(way: Way, built: Built, rows: Sequence[Document], *, progress: Progress) -> Seen:
    """Have a model read the documents."""
    progress("reading general texts", 0, 1)
    if way == "perplexity":
        reader = Pretrain(block_tokens=_room(built))
        found = reader.predictions(built.model, built, rows, reads="likelihoods", progress=progress)
        return Seen(likelihoods=found)
    if isinstance(built.model, BiEncoder):
        form = built.model.format
        texts = [form.passage("", row.text) for row in rows]
        return Seen(vectors=built.model.passages.encode(texts, max_tokens=form.passage_tokens)[0])
    return Seen(vectors=_hidden_means(built, [row.text for row in rows]))


def _hidden_means(built: Built, texts: Sequence[str]) -> Tensor:
    """Return (texts, width): the mean of each text's last hidden states, made unit length; longer texts are cut."""
    network: Any = built.model
    ids = built.tokenizer(list(texts), truncation=True, max_length=_room(built))["input_ids"]
    found: dict[int, Tensor] = {}
    for group in micro_batches(range(len(ids)), [len(row) for row in ids], budget=PASS_TOKENS):
        inputs = network_inputs(network, *pad_right([ids[row] for row in group]))
        outputs = network(**inputs, output_hidden_states=True)
        layers = outputs.decoder_hidden_states if network.config.is_encoder_decoder else outputs.hidden_states
        mask = inputs["attention_mask"][..., None]
        states = layers[-1][:, -mask.shape[1] :].float()  # without what soft tokens left
        means = (states * mask).sum(dim=1) / mask.sum(dim=1)
        found |= dict(zip(group, functional.normalize(means, dim=-1).cpu(), strict=True))
    return torch.stack([found[row] for row in range(len(ids))])


def _compared(
    before: Seen, after: Seen, rows: Sequence[Document], facts: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the two perplexities, their paired difference, and the relative change."""
    triples = zip(rows, before.likelihoods, after.likelihoods, strict=True)
    kept = [(row, one, other) for row, one, other in triples if one[1]]
    was, now = [one for _, one, _ in kept], [other for _, _, other in kept]
    groups, seed = [row.group for row, _, _ in kept], int(facts["seed"])
    moved = [(new - old, tokens) for (old, tokens), (new, _) in zip(was, now, strict=True)]
    found: dict[str, Any] = {
        **facts,
        "n": len(kept),
        "left_out": len(rows) - len(kept),
        "tokens": sum(tokens for _, tokens in was),
        "before": _ranged(Perplexity(), was, groups, seed),
        "after": _ranged(Perplexity(), now, groups, seed),
        "change": _ranged(_Change(), moved, groups, seed),
    }
    if any(gap for gap, _ in moved):
        texts = [row.text for row, _, _ in kept]
        found["difference"] = asdict(metric_difference(Perplexity(), now, was, texts, groups=groups, seed=seed))
    return found, [{"id": row.id, "before": [*one], "after": [*other]} for row, one, other in kept]


def _drifted(
    before: Seen, after: Seen, rows: Sequence[Document], facts: Mapping[str, Any], *, neighbours: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return how close the vectors are to those of the base, and how many neighbours stay."""
    assert before.vectors is not None
    assert after.vectors is not None
    each: dict[str, list[float]] = {"cosine": (before.vectors * after.vectors).sum(dim=1).clamp(-1, 1).tolist()}
    if neighbours:
        each[f"overlap@{NEIGHBOURS}"] = neighbour_overlap(before.vectors, after.vectors)
    groups, seed = [row.group for row in rows], int(facts["seed"])
    metrics = {"cosine": _Cosine(), f"overlap@{NEIGHBOURS}": _Overlap()}
    scores = {name: _ranged(metrics[name], values, groups, seed) for name, values in each.items()}
    lines = [{"id": row.id, **{name: values[place] for name, values in each.items()}} for place, row in enumerate(rows)]
    return {**facts, "n": len(rows), "left_out": 0, "scores": scores}, lines


def _ranged(metric: Metric, found: Sequence[Any], groups: Sequence[str], seed: int) -> dict[str, float]:
    """Return a metric with its interval; where all documents are alike, there is nothing to resample: of no width."""
    each = metric.combine(metric.statistics(found, found))
    if float(np.ptp(each)) <= TINY * max(1.0, float(np.abs(each).max())):
        value = metric.value(found, found)
        return asdict(Interval(value, value, value, len(found)))
    return asdict(metric_interval(metric, found, found, groups=groups, seed=seed))


def neighbour_overlap(before: Tensor, after: Tensor) -> list[float]:
    """Return for each row the share of its ten nearest others that are the same in both; before, after: (rows, width).

    Of fewer than eleven rows, all others are neighbours, and the share is 1.
    """
    ours, theirs = _nearest(before), _nearest(after)
    return [len(one & other) / max(1, len(one)) for one, other in zip(ours, theirs, strict=True)]


def _nearest(vectors: Tensor) -> list[set[int]]:
    """Return each row's nearest others."""
    _, found = top_k(vectors, vectors, min(NEIGHBOURS + 1, len(vectors)))
    return [set([place for place in row if place != own][:NEIGHBOURS]) for own, row in enumerate(found.tolist())]


class _Change(Metric):
    """By which share a perplexity rose: exp(Σ (NLL after - NLL before) / Σ tokens) - 1."""

    bounds: ClassVar[tuple[float, float]] = (-1.0, float("inf"))

    @property
    def label(self) -> str:
        return "change"

    def statistics(self, predictions: Sequence[tuple[float, int]], references: Sequence[object]) -> Floats:  # noqa: ARG002
        return np.array(predictions, dtype=np.float64).reshape(-1, 2)

    def combine(self, totals: Floats) -> Floats:
        found: Floats = np.expm1(totals[..., 0] / totals[..., 1])
        return found


class _Overlap(Metric):
    """The mean of shares that are there already."""

    @property
    def label(self) -> str:
        return f"overlap@{NEIGHBOURS}"

    def score(self, predictions: Sequence[float], references: Sequence[object]) -> list[float]:  # noqa: ARG002
        return [*predictions]


class _Cosine(_Overlap):
    """The mean of cosines that are there already."""

    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    @property
    def label(self) -> str:
        return "cosine"
