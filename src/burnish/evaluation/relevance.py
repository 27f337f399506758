"""Relevance of answers: vectors of questions and answers from an encoder, and their cosines."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from burnish.metrics.relevance import Relevance
from burnish.models.encode import Encoder


def cosines(questions: Sequence[str], answers: Sequence[str], metric: Relevance) -> list[float]:
    """Return the cosine of each question with its answer, by the encoder that the metric names; long texts are cut.

    An empty answer has the cosine 0.

    Raises:
        ModelError: the encoder cannot be loaded.
    """
    encoder = Encoder.load(metric.model, dtype=torch.float32)
    asked = encoder.encode([encoder.format.query(text) for text in questions], max_tokens=encoder.longest)[0]
    said = encoder.encode([encoder.format.passage("", text) for text in answers], max_tokens=encoder.longest)[0]
    found: list[float] = functional.cosine_similarity(asked, said).tolist()
    return [cosine if answer.strip() else 0.0 for cosine, answer in zip(found, answers, strict=True)]
