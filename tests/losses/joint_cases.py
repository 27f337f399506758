"""Losses of a retriever that learns from a generator, each with its formulas written out in loops."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.losses.adist import Adist
from burnish.losses.anchor_kl import AnchorKl
from burnish.losses.emdr2 import Emdr2
from burnish.losses.loop import Loop
from burnish.losses.pdist import Pdist
from burnish.losses.rag_sequence import RagSequence
from burnish.losses.rag_token import RagToken
from burnish.losses.replug import Replug


@dataclass(frozen=True)
class Given:
    """What a step knows of its questions; `signal` is the attention, or the scores at the start."""

    scores: Tensor
    there: Tensor
    logps: Tensor
    tokens: Tensor
    signal: Tensor

    def __getitem__(self, rows: slice) -> "Given":
        return Given(self.scores[rows], self.there[rows], self.logps[rows], self.tokens[rows], self.signal[rows])

    def passages(self, places: Sequence[int]) -> "Given":
        parts = (self.scores[:, places], self.there[:, places], self.logps[:, places], self.signal[:, places])
        return Given(*parts[:3], self.tokens, parts[3])


@dataclass(frozen=True)
class Row:
    """One question, of which all passages are there, as plain numbers."""

    scores: list[float]
    logps: list[list[float]]  # a list for each passage
    signal: list[float]

    @property
    def sums(self) -> list[float]:
        return [sum(one) for one in self.logps]

    @property
    def means(self) -> list[float]:
        return [sum(one) / len(one) for one in self.logps]


def given(seed: int = 0) -> Given:
    """Return three questions of four, two and three passages with answers of five, three and one tokens."""
    draw = torch.Generator().manual_seed(seed)
    scores, signal = (0.15 * torch.randn(3, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    tokens = torch.tensor([5, 3, 1])
    there = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]
    logps = -2 * torch.rand(3, 4, 5, generator=draw, dtype=torch.float64) - 0.05
    logps = logps.masked_fill((torch.arange(5) >= tokens[:, None])[:, None], 0)
    return Given(scores, there, logps, tokens, signal)


def rows_of(all_of: Given) -> list[Row]:
    found = []
    for row, many in enumerate(all_of.there.sum(dim=1).tolist()):
        logps = all_of.logps[row, :many, : all_of.tokens[row]].tolist()
        found.append(Row(all_of.scores[row, :many].tolist(), logps, all_of.signal[row, :many].tolist()))
    return found


def softmax(numbers: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(number / temperature) for number in numbers]
    return [power / sum(powers) for power in powers]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def marginal(prior: list[float], logps: list[float]) -> float:
    return -math.log(sum(p * math.exp(logp) for p, logp in zip(prior, logps, strict=True)))


def posterior(prior: list[float], logps: list[float]) -> list[float]:
    both = [p * math.exp(logp) for p, logp in zip(prior, logps, strict=True)]
    return [one / sum(both) for one in both]


def by_token(row: Row) -> list[list[float]]:
    return [list(logps) for logps in zip(*row.logps, strict=True)]


@dataclass(frozen=True)
class Case:
    """A loss, and what a row's softmax is pulled to: posteriors where the loss is a probability, else a target."""

    loss: Any
    logps: Callable[[Row], list[list[float]]] | None = None
    target: Callable[[Row], list[float]] | None = None

    @property
    def id(self) -> str:
        return " ".join([self.loss.kind, *(str(value) for value in self.loss.model_dump().values())])

    def prior(self, row: Row) -> list[float]:
        return softmax(row.scores, self.loss.temperature)

    def value(self, row: Row) -> float:
        prior = self.prior(row)
        if self.logps:
            return sum(marginal(prior, logps) for logps in self.logps(row))
        assert self.target
        return kl(prior, self.target(row)) if self.reversed else kl(self.target(row), prior)

    def gradient(self, row: Row) -> list[float]:
        """Return the closed form of the gradient in the scores."""
        prior, temperature = self.prior(row), self.loss.temperature
        if self.reversed:
            assert self.target
            target = self.target(row)
            whole = kl(prior, target)
            return [p / temperature * (math.log(p / q) - whole) for p, q in zip(prior, target, strict=True)]
        pulls = [posterior(prior, logps) for logps in self.logps(row)] if self.logps else [self.target(row)]
        return [sum(p - pull[k] for pull in pulls) / temperature for k, p in enumerate(prior)]

    @property
    def reversed(self) -> bool:
        return "direction" in type(self.loss).model_fields and self.loss.direction == "reverse"


WAYS: list[Any] = ["forward", "reverse"]
MARGINALS = [
    Case(RagSequence(), logps=lambda row: [row.sums]),
    Case(RagToken(temperature=0.1), logps=by_token),
    Case(Emdr2(temperature=0.2), logps=lambda row: [row.sums]),
]
DISTILLED = [
    *(Case(Pdist(direction=way), target=lambda row: softmax(row.means, 0.1)) for way in WAYS),
    *(
        Case(Pdist(length="none", target_temperature=2.0, direction=way), target=lambda row: softmax(row.sums, 2.0))
        for way in WAYS
    ),
    *(
        Case(Replug(direction=way), target=lambda row: softmax([math.exp(mean) for mean in row.means], 0.1))
        for way in WAYS
    ),
    *(
        Case(
            Replug(temperature=0.1, target_temperature=0.02, probability="sequence", direction=way),
            target=lambda row: softmax([math.exp(whole) for whole in row.sums], 0.02),
        )
        for way in WAYS
    ),
    *(Case(Loop(direction=way), target=lambda row: softmax([-mean for mean in row.means], 0.1)) for way in WAYS),
    *(Case(Adist(target_temperature=0.3, direction=way), target=lambda row: softmax(row.signal, 0.3)) for way in WAYS),
    Case(AnchorKl(), target=lambda row: softmax(row.signal, 0.05)),
]
CASES = [*MARGINALS, *DISTILLED]


def of(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


def value(loss: Any, all_of: Given) -> Tensor:
    found: Tensor
    if isinstance(loss, Adist | AnchorKl):
        found = loss(all_of.scores, all_of.there, all_of.signal)
    else:
        found = loss(all_of.scores, all_of.there, all_of.logps, all_of.tokens)
    return found


def gradients(loss: Any, all_of: Given) -> tuple[Tensor, Tensor | None]:
    """Return the gradients in the scores and in what the generator says."""
    scores = all_of.scores.detach().clone().requires_grad_()
    logps = all_of.logps.detach().clone().requires_grad_()
    signal = all_of.signal.detach().clone().requires_grad_()
    value(loss, replace(all_of, scores=scores, logps=logps, signal=signal)).backward()
    assert scores.grad is not None
    assert signal.grad is None
    return scores.grad, logps.grad
