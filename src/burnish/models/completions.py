"""Prompts with their completions: batches of them, and the logits at the completions' tokens alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from burnish.models.layout import Branches, Segments, lay_kin, lay_out, lay_tree
from burnish.models.logps import target_logps
from burnish.models.padding import network_inputs, pad_right
from burnish.models.policy import token_logps
from burnish.models.segments import logits_at, plain_head, states_at


@dataclass(frozen=True, slots=True)
class Apart:
    """What an encoder-decoder reads, padded on the right.

    prompts, mask: (prompts, width). owners: (completions,), which prompt each goes on from. decoder_ids: (completions,
    width), the completions moved by one token, behind the place of the start token: -1, for the model's own.
    """

    prompts: Tensor
    mask: Tensor
    owners: Tensor
    decoder_ids: Tensor


@dataclass(frozen=True, slots=True)
class CompletionBatch:
    """Completions of prompts; no completion sees another, and no row another row.

    places: (trained tokens,), flat positions whose next token is trained; targets: those tokens, row by row,
    completion by completion. lengths: tokens of each completion, in that order.
    """

    read: Segments | Apart
    places: Tensor
    targets: Tensor
    lengths: list[int]


def is_apart(model: nn.Module) -> bool:
    """Tell whether an encoder of its own reads the prompts."""
    network: Any = model
    return bool(network.config.is_encoder_decoder)


def collate_branches(rows: Sequence[Branches]) -> CompletionBatch:
    """Return the batch of a causal model: one row without padding, each prompt in it once.

    rows: token ids of a prompt, not empty, and of the completions that go on from it, none of which is empty. A
    completion's last token is only a target, and is not read.
    """
    segments, found = lay_out([(prompt, [one[:-1] for one in completions]) for prompt, completions in rows])
    places, start = [], 0
    for (prompt, completions), behind in zip(rows, found, strict=True):
        for own in behind:
            places += [start + len(prompt) - 1, *own]
        start += len(prompt) + sum(len(one) - 1 for one in completions)
    return CompletionBatch(segments, torch.tensor(places), *_targets(rows))


def collate_behind(beginning: Sequence[int], rows: Sequence[Branches]) -> CompletionBatch:
    """Return the batch of `collate_branches` for prompts that all begin with the same tokens, which are read once.

    beginning: these tokens, at least one. rows: what is each prompt's own, at least one token, and its completions.
    """
    texts: list[tuple[int | None, int, Sequence[int]]] = [(None, 0, beginning)]
    for own, completions in rows:
        first = len(texts)
        texts.append((0, len(beginning), [*own, *completions[0][:-1]]))
        texts += [(first, len(beginning) + len(own), one[:-1]) for one in completions[1:]]
    segments, [found] = lay_tree([texts])
    behind, places = iter(found[1:]), []
    for own, completions in rows:
        whole = next(behind)
        last = whole.start + len(own) - 1
        places += [*range(last, whole.stop)]
        for _ in completions[1:]:
            places += [last, *next(behind)]
    return CompletionBatch(segments, torch.tensor(places), *_targets(rows))


def collate_kin(kin: Sequence[Sequence[tuple[int, Sequence[int], Sequence[int]]]]) -> CompletionBatch:
    """Return the batch of a causal model whose prompts begin alike in groups: what is shared stands there once.

    kin: of each group its rows: how many first tokens of the group's first prompt this one begins with, at least one
    and 0 for the first itself, its prompt, and its one completion. Lengths are in the groups' order.
    """
    rows = [[(seen, [*prompt[seen:], *completion[:-1]]) for seen, prompt, completion in group] for group in kin]
    segments, found = lay_kin(rows)
    places: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    for group, behind in zip(kin, found, strict=True):
        for (seen, prompt, completion), own in zip(group, behind, strict=True):
            before = [behind[0].start + seen - 1, *own]
            places += before[len(prompt) - seen :]
            targets += completion
            lengths.append(len(completion))
    return CompletionBatch(segments, torch.tensor(places), torch.tensor(targets), lengths)


def collate_turns(rows: Sequence[tuple[Sequence[int], Sequence[range]]]) -> CompletionBatch:
    """Return the batch of a causal model whose rows have trained tokens in several places, one behind the other.

    rows: token ids, and where trained tokens stand among them, the last one at the end. A row's lengths are one number.
    """
    segments, _ = lay_out([(ids[:-1], ()) for ids, _ in rows])
    places: list[int] = []
    targets: list[int] = []
    start = 0
    for ids, spans in rows:
        for span in spans:
            places += [start + place - 1 for place in span]
            targets += ids[span.start : span.stop]
        start += len(ids) - 1
    lengths = [sum(map(len, spans)) for _, spans in rows]
    return CompletionBatch(segments, torch.tensor(places), torch.tensor(targets), lengths)


def collate_branches_apart(rows: Sequence[Branches]) -> CompletionBatch:
    """Return the batch of an encoder-decoder: the encoder reads each prompt once, the decoder writes the completions.

    rows: as in `collate_branches`.
    """
    prompts, mask = pad_right([prompt for prompt, _ in rows])
    decoder_ids, real = pad_right([(-1, *one[:-1]) for _, completions in rows for one in completions])
    owners = [number for number, (_, completions) in enumerate(rows) for _ in completions]
    places = real.flatten().nonzero()[:, 0]
    return CompletionBatch(Apart(prompts, mask, torch.tensor(owners), decoder_ids), places, *_targets(rows))


def completion_logits(model: nn.Module, batch: CompletionBatch) -> Tensor:
    """Return (trained tokens, vocabulary) logits; of a causal model the LM head sees these positions alone."""
    if isinstance(batch.read, Apart):
        return _apart(model, batch.read, batch.places)
    return logits_at(model, batch.read, batch.places)


def completion_logps(model: nn.Module, batch: CompletionBatch) -> Tensor:
    """Return (trained tokens,): ln of each one's probability; in fp32, or in fp64 where the model computes in it."""
    weight = None if isinstance(batch.read, Apart) else plain_head(model)
    if weight is not None and isinstance(batch.read, Segments):
        states = states_at(model, batch.read, batch.places)
        return target_logps(states, weight, batch.targets.to(states.device))
    return token_logps(completion_logits(model, batch), batch.targets)


def _targets(rows: Sequence[Branches]) -> tuple[Tensor, list[int]]:
    completions = [one for _, found in rows for one in found]
    return torch.tensor([token for one in completions for token in one]), [len(one) for one in completions]


def _apart(model: nn.Module, read: Apart, places: Tensor) -> Tensor:
    """Return the logits of an encoder-decoder: nearly all of its decoder's positions are trained.

    Soft tokens stand before what the encoder reads, which PEFT sees to: there the prompts are repeated.
    """
    outer: Any = model
    soft = isinstance(model, PeftModel) and outer.active_peft_config.is_prompt_learning
    shared = not soft and len(read.owners) > len(read.prompts)
    start = outer.config.decoder_start_token_id
    begun = read.decoder_ids.masked_fill(read.decoder_ids < 0, start)
    if shared:
        inputs = network_inputs(model, read.prompts, read.mask)
        owners = read.owners.to(inputs["input_ids"].device)
        states = outer.get_encoder()(**inputs).last_hidden_state[owners]
        given: dict[str, Any] = {
            "encoder_outputs": BaseModelOutput(last_hidden_state=states),
            "attention_mask": inputs["attention_mask"][owners],
        }
    else:
        given = network_inputs(model, read.prompts[read.owners], read.mask[read.owners])
    decoder_ids = begun.to(given["attention_mask"].device)
    logits: Tensor = outer(**given, decoder_input_ids=decoder_ids, use_cache=False).logits
    return logits.flatten(0, 1)[places.to(logits.device)]
