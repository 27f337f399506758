"""How much a generator looks at each passage while it writes an answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from burnish.additions.attention import IMPLEMENTATIONS, eager_attention
from burnish.errors import ModelError
from burnish.models.answers_apart import Row

NAME = "eager_and_watched"  # of our attention function, as transformers knows it
_CROSS = ("EncDecAttention", "encoder_attn", "crossattention")  # what models call attention from decoder to encoder


@dataclass(slots=True)
class _Watch:
    """Which queries and keys count, and what their attention adds up to: (spans,)."""

    queries: slice
    spans: Sequence[range]
    modules: frozenset[nn.Module] | None  # None: all
    total: Tensor


_watch: ContextVar[_Watch] = ContextVar("watch")


def require_watchable(network: nn.Module) -> None:
    """Check that attention is that of the text's tokens alone.

    Raises:
        ModelError: tokens or keys of a method stand before them.
    """
    outer: Any = network
    soft = isinstance(network, PeftModel) and outer.active_peft_config.is_prompt_learning
    if soft or outer.config._attn_implementation in IMPLEMENTATIONS.values():
        raise ModelError(
            "loss adist looks at the attention between answer and passages, and method prompt or prefix puts more "
            "before them; use lora or full for the generator, or loss pdist"
        )


@torch.no_grad()
def attention_masses(network: nn.Module, rows: Sequence[Row], spans: Sequence[Sequence[range]]) -> list[Tensor]:
    """Return for each row (spans,): the attention from its answer to each span of its prompt's tokens, fp32.

    Weight times the norm of the value, the mean over heads, summed over layers, the span's tokens and the places that
    predict the answer's tokens (Izacard et al. 2022, arXiv 2208.03299, who add up over all of these). Of an
    encoder-decoder, the decoder's attention to the encoder. Dropout is as the network's mode says.
    """
    outer: Any = network
    model: Any = outer.get_base_model() if isinstance(network, PeftModel) else outer
    device = next(model.parameters()).device
    apart = model.config.is_encoder_decoder
    cross = frozenset(module for name, module in model.named_modules() if name.split(".")[-1] in _CROSS)
    found = []
    for (prompt, answer), own in zip(rows, spans, strict=True):
        total = torch.zeros(len(own), device=device)
        read = torch.tensor([[*prompt] if apart else [*prompt, *answer[:-1]]], device=device)
        inputs: dict[str, Any] = {"input_ids": read}
        if apart:
            inputs["decoder_input_ids"] = torch.tensor(
                [[model.config.decoder_start_token_id, *answer[:-1]]], device=device
            )
        first = 0 if apart else len(prompt) - 1
        watch = _Watch(slice(first, first + len(answer)), own, cross if apart else None, total)
        with _watched(model, watch):
            model(**inputs, use_cache=False)
        found.append(total)
    return found


@contextmanager
def _watched(model: Any, watch: _Watch) -> Iterator[None]:
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, eager_mask)
    before, token = model.config._attn_implementation, _watch.set(watch)
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        _watch.reset(token)


def _attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any) -> Any:
    """Compute attention as transformers does, and add up what is watched."""
    out, weights = eager_attention(module, query, key, value, mask, **settings)
    watch = _watch.get()
    if watch.modules is None or module in watch.modules:
        norms = value[0].float().norm(dim=-1)  # (key heads, keys)
        norms = norms.repeat_interleave(len(weights[0]) // len(norms), dim=0)
        seen = (weights[0, :, watch.queries].float() * norms[:, None]).mean(dim=0).sum(dim=0)
        watch.total += torch.stack([seen[span.start : span.stop].sum() for span in watch.spans])
    return out, weights
