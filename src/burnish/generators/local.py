"""A model on this machine that writes text."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field, model_validator

from burnish.errors import RecipeError
from burnish.failures import Failure
from burnish.generators import Generator, Writer, require_draws
from burnish.models.adapted import base_of
from burnish.models.decode import Sampling, answers_to, read_back, sample
from burnish.models.load import load_writer, resolve
from burnish.models.merge import merged
from burnish.models.precision import chosen_dtype
from burnish.models.render import prompt_ids
from burnish.records import Message


class Local(Generator):
    """A chat model, an encoder-decoder or an adapter of one: the likeliest text, or one drawn at a temperature.

    A prompt has one text, whatever is written beside it: draws depend on the seed and the prompt's place alone.
    """

    model: str
    max_new_tokens: int = Field(default=32, ge=1)
    temperature: float = Field(default=0.0, ge=0)  # 0: the likeliest token each time
    top_p: float = Field(default=1.0, gt=0, le=1)  # share of the probability that is drawn from: the likeliest tokens
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _draws_where_it_says_how(self) -> "Local":
        """Check that no setting is without effect.

        Raises:
            RecipeError: the likeliest text is written, and a setting says from what is drawn.
        """
        if self.temperature == 0 and self.top_p < 1:
            raise RecipeError(f"top_p is {self.top_p:g}, and at temperature 0 nothing is drawn; give a temperature")
        return self

    def load(self) -> Writer:
        """Load the model in the number format that suits this chip; an adapter is merged into its base before that."""
        dtype = chosen_dtype("auto")
        adapted = base_of(resolve(self.model)) is not None
        network, tokenizer = load_writer(self.model, dtype=torch.float32 if adapted else dtype)
        merged(network)
        for weight in network.parameters():
            weight.data = weight.data.to(dtype)
        return _LocalWriter(network, tokenizer, self)


class _LocalWriter:
    def __init__(self, network: Any, tokenizer: Any, settings: Local) -> None:
        self._network = network.eval()
        self._tokenizer = tokenizer
        self._settings = settings

    @property
    def parameters(self) -> int:
        return int(self._network.num_parameters())

    def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
        if self._settings.temperature:
            return [texts[0] for texts in self._drawn(prompts, count=1, done=done)]
        limit = self._settings.max_new_tokens
        return answers_to(self._network, self._tokenizer, prompts, max_new_tokens=limit, done=done)

    def attempt(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str | Failure]:
        return [*self.write(prompts, done=done)]  # nothing stands between it and its model that could fail for one

    def sample(
        self, prompts: Sequence[Sequence[Message]], *, count: int, done: Callable[[int], None]
    ) -> list[list[str]]:
        require_draws(self._settings, self._settings.temperature)
        return self._drawn(prompts, count=count, done=done)

    def _drawn(
        self, prompts: Sequence[Sequence[Message]], *, count: int, done: Callable[[int], None]
    ) -> list[list[str]]:
        settings = self._settings
        drawn = sample(
            self._network,
            prompt_ids(prompts, self._tokenizer, apart=self._network.config.is_encoder_decoder),
            keys=range(len(prompts)),
            count=count,
            sampling=Sampling(settings.seed, settings.temperature, settings.top_p),
            end=self._tokenizer.eos_token_id,
            pad=self._tokenizer.pad_token_id,
            max_new_tokens=settings.max_new_tokens,
            done=lambda finished: done(finished * count),
        )
        return [read_back(self._tokenizer, [one.tokens for one in texts]) for texts in drawn]
