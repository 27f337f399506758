"""How likely answers are, by a model that trains and by what it was before: the latter computed once, kept on disk."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from burnish.losses import Answers
from burnish.models.completions import CompletionBatch, collate_branches, collate_branches_apart, completion_logps
from burnish.models.layout import Branches
from burnish.models.packing import micro_batches
from burnish.models.start import before_training
from burnish.models.store import VectorStore
from burnish.models.token_ids import ids_key
from burnish.models.weight_digest import weights_digest
from burnish.run import write_json

PASS_TOKENS = 2048  # in one pass without gradient: more are no faster, and each has the vocabulary's width of logits
BLOCK = 64  # rows whose numbers reach the disk together: what a kill loses at most
FORM = 2  # raise it where the same weights come to read otherwise, if only in the last digits of bf16
NAME = "reference.json"  # beside a model: what it was before

_kept: WeakKeyDictionary[nn.Module, dict[bytes, float]] = WeakKeyDictionary()
Progress = Callable[[int, int], None]


def answer_logps(model: nn.Module, batch: CompletionBatch) -> Tensor:
    """Return (completions,): ln of each completion's probability, the sum over its tokens; fp64 stays fp64."""
    logps = completion_logps(model, batch)
    owners = torch.repeat_interleave(torch.tensor(batch.lengths)).to(logps.device)
    return logps.new_zeros(len(batch.lengths)).index_add(0, owners, logps)


def answer_keys(prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> tuple[bytes, ...]:
    """Return what each answer to a prompt is called by."""
    return tuple(ids_key([*prompt, -1, *answer]) for answer in answers)


def keep_reference(
    model: nn.Module,
    rows: Sequence[Branches],
    *,
    apart: bool,
    folder: Path,
    progress: Progress = lambda _done, _all: None,
) -> int:
    """Compute how likely the answers of all rows are before the model's first step, and keep that beside the model.

    Returns how many rows were computed for it: those that the folder did not hold for these weights. What was killed
    goes on from there. apart: an encoder reads the prompts.
    """
    with before_training(model) as network:
        store = VectorStore(folder / _fingerprint(network), width=1)
        keys = [answer_keys(*row) for row in rows]
        missing = [place for place, found in enumerate(keys) if any(key not in store for key in found)]
        missing.sort(key=lambda place: (-_size(rows[place]), place))
        for first in range(0, len(missing), BLOCK):
            some = missing[first : first + BLOCK]
            found = logps_of(network, [rows[place] for place in some], apart=apart)
            new = {
                key: value
                for place, logps in zip(some, found, strict=True)
                for key, value in zip(keys[place], logps, strict=True)
            }
            store.add([*new], torch.tensor([*new.values()])[:, None], [False] * len(new))
            progress(first + len(some), len(missing))
    wanted = [*dict.fromkeys(key for found in keys for key in found)]
    values = store.rows(wanted)[: len(wanted)][:, 0].tolist() if wanted else []
    _kept.setdefault(model, {}).update(zip(wanted, values, strict=True))
    return len(missing)


@torch.no_grad()
def logps_of(model: nn.Module, rows: Sequence[Branches], *, apart: bool) -> list[list[float]]:
    """Return ln of the probability of each row's answers, in the order given."""
    found: list[list[float]] = [[] for _ in rows]
    for group in micro_batches(range(len(rows)), [_size(row) for row in rows], budget=PASS_TOKENS):
        some = [rows[place] for place in group]
        logps = iter(answer_logps(model, (collate_branches_apart if apart else collate_branches)(some)).tolist())
        for place in group:
            found[place] = [next(logps) for _ in rows[place][1]]
    return found


def has_reference(model: nn.Module, keys: Sequence[bytes]) -> bool:
    """Tell whether all of these answers are kept beside the model."""
    return model in _kept and all(key in _kept[model] for key in keys)


def reference_logps(model: nn.Module, keys: Sequence[bytes]) -> Tensor:
    """Return (answers,): ln of the probability of these answers before the first step, where the model's weights are.

    Each must be among those that `keep_reference` was given.
    """
    kept = _kept[model]
    return torch.tensor([kept[key] for key in keys], device=next(model.parameters()).device)


def write_origin(folder: Path, model: str) -> None:
    """Write beside a saved model the name of the one that it was trained from."""
    write_json(folder / NAME, {"model": model})


def origin_of(folder: Path) -> str | None:
    """Return the name of the model that a saved one was trained from; None where nothing says so."""
    path = folder / NAME
    return str(json.loads(path.read_text(encoding="utf-8"))["model"]) if path.is_file() else None


def as_answers(logps: Tensor, reference: Tensor, lengths: Sequence[int], places: slice) -> Answers:
    """Return some of the answers, as losses read them."""
    tokens = torch.tensor(lengths, device=logps.device, dtype=logps.dtype)
    return Answers(logps[places], reference[places].to(logps.dtype), tokens[places])


def _size(row: Branches) -> int:
    prompt, answers = row
    return len(prompt) + sum(map(len, answers))


def _fingerprint(network: Any) -> str:
    """Return 16 hexadecimal digits that name these weights; low-rank factors that add nothing yet are left out."""
    return weights_digest(f"{type(network).__name__} {FORM} {torch.__version__}", _telling(network))


def _telling(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    weights: Mapping[str, Tensor] = dict(sorted(network.named_parameters()))
    idle = not any(weight.any() for name, weight in weights.items() if ".lora_B." in name)
    return ((name, weight) for name, weight in weights.items() if not (idle and ".lora_" in name))
