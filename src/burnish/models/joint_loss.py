"""What compares a question's passages: the loss between the halves, and the pulls that hold the retriever."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.losses import Loss
from burnish.losses.adist import Adist
from burnish.losses.anchor_kl import AnchorKl
from burnish.losses.contrastive import Contrastive
from burnish.models.answers_apart import Row, logps_in_passes
from burnish.models.completions import is_apart
from burnish.models.passages import Passages, fresh_scores
from burnish.models.retrieved import Retrieved, Told, padded
from burnish.passage_softmax import log_shares


def passages_loss(
    joint: Any,
    passages: Passages,
    found: Sequence[Retrieved],
    *,
    loss: Loss,
    start_weight: float,
    gold_weight: float,
    pass_tokens: int,
) -> tuple[Tensor, Told]:
    """Return the sum over questions, and what the log tells of it.

    loss, which gradients reach, + start_weight · KL to the first retriever + gold_weight · InfoNCE of the right
    passages against those found, where right ones are known. All have the temperature of the loss.
    """
    lists = [(*one.places, *one.beside) for one in found]
    queries = [one.item.query for one in found]
    scores_rp, listed_rp = fresh_scores(joint, passages, queries, lists, pass_tokens=pass_tokens)
    device, k = scores_rp.device, max(len(one.places) for one in found)
    counts = torch.tensor([[len(one.places)] for one in found], device=device)
    scores_rk, there_rk = scores_rp[:, :k], torch.arange(k, device=device) < counts
    named: Any = loss
    signals = [_signal(joint, found, pass_tokens).to(device)]
    if not isinstance(loss, Adist):
        signals.append(torch.tensor([len(one.scored[0][1]) for one in found], device=device))
    total: Tensor = named(scores_rk, there_rk, *signals)
    theta = named.temperature
    start_rk = padded([one.start for one in found]).to(device)
    pull: Tensor = AnchorKl(temperature=theta)(scores_rk, there_rk, start_rk)
    shares_rk = log_shares(scores_rk.detach(), there_rk, temperature=theta)
    entropy = -(shares_rk.exp() * shares_rk.masked_fill(~there_rk, 0)).sum()
    told: Told = {"entropy": (entropy.item(), len(found)), "kl": (pull.item(), len(found))}
    if passages.stale:
        told["index anew"] = (len(found) * passages.stale.anew, len(found))
        if passages.stale.cosine is not None:
            told["index cosine"] = (len(found) * passages.stale.cosine, len(found))
    total = total + start_weight * pull if start_weight else total
    known = [row for row, one in enumerate(found) if one.right] if gold_weight else []
    if known:
        gold = _gold_loss(scores_rp, listed_rp, [one.right for one in found], lists, known, temperature=theta)
        told["gold loss"] = (gold.item(), len(known))
        total = total + gold_weight * gold
    return total, told


def _gold_loss(
    scores_rp: Tensor,
    listed_rp: Tensor,
    right: Sequence[frozenset[int]],
    lists: Sequence[Sequence[int]],
    known: Sequence[int],
    *,
    temperature: float,
) -> Tensor:
    """Return InfoNCE summed over the questions, `known`, whose right passages are known."""
    right_rp = torch.zeros_like(listed_rp)
    for row in known:
        right_rp[row, : len(lists[row])] = torch.tensor([place in right[row] for place in lists[row]])
    rows = torch.tensor(known, device=scores_rp.device)
    positive, hidden = right_rp[rows], (right_rp | ~listed_rp)[rows]
    return Contrastive(temperature=temperature)(scores_rp[rows], positive, known_qd=hidden)


def _signal(joint: Any, found: Sequence[Retrieved], pass_tokens: int) -> Tensor:
    """Return what the generator says of each question's passages, padded: (questions, passages, …)."""
    kept = [one.signal for one in found if one.signal is not None]
    if len(kept) == len(found):
        return padded(kept)
    logps = iter(answers_of(joint, [one.scored for one in found], pass_tokens=pass_tokens))
    return padded([torch.stack([next(logps) for _ in one.scored]) for one in found])


def answers_of(
    joint: Any, asked: Sequence[Sequence[Row]], places: Sequence[int] | None = None, *, pass_tokens: int
) -> list[Tensor]:
    """Return for each row (tokens of its answer,): ln of the probabilities that the generator gives them.

    asked: of each question, its prompts with the answer; they begin alike, which is read once. places: the rows to
    read, counted through all questions; None: all.
    """
    rows = [(question, row) for question, own in enumerate(asked) for row in own]
    if places is not None:
        rows = [rows[place] for place in places]
    return logps_in_passes(
        joint.generator,
        [row for _, row in rows],
        pass_tokens=pass_tokens,
        apart=is_apart(joint),
        families=[question for question, _ in rows],
    )
