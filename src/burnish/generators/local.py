"""A model on this machine that writes text."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from burnish.generators import Generator, Writer
from burnish.models.decode import write
from burnish.models.load import load_writer
from burnish.models.precision import chosen_dtype
from burnish.models.render import prompt_ids
from burnish.records import Message


class Local(Generator):
    """A chat model, an encoder-decoder or an adapter of one: greedy, so a prompt has one text."""

    model: str
    max_new_tokens: int = Field(default=32, ge=1)

    def load(self) -> Writer:
        """Load the model in the number format that suits this chip; an adapter is merged into its base."""
        network, tokenizer = load_writer(self.model, dtype=chosen_dtype("auto"))
        if hasattr(network, "merge_and_unload"):
            network = network.merge_and_unload()
        return _LocalWriter(network, tokenizer, self.max_new_tokens)


class _LocalWriter:
    def __init__(self, network: Any, tokenizer: Any, max_new_tokens: int) -> None:
        self._network = network.eval()
        self._tokenizer = tokenizer
        self._max_new_tokens = max_new_tokens

    @property
    def parameters(self) -> int:
        return int(self._network.num_parameters())

    def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
        ids = prompt_ids(prompts, self._tokenizer, apart=self._network.config.is_encoder_decoder)
        written = write(
            self._network,
            ids,
            end=self._tokenizer.eos_token_id,
            pad=self._tokenizer.pad_token_id,
            max_new_tokens=self._max_new_tokens,
            done=done,
        )
        texts: list[str] = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip() for text in texts]
