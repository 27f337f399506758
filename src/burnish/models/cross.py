"""Pairs of texts as scores: one network reads query and passage together."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models.cross_folder import require_readable, write_cross_layout
from burnish.models.dropout import still
from burnish.models.encode import tokens_at_once
from burnish.models.load import load_regressor, load_tokenizer, resolve
from burnish.models.packing import micro_batches
from burnish.models.padding import longest_input, network_inputs, pad_right
from burnish.models.quiet import quiet
from burnish.models.reading import kind_of
from burnish.models.save import save_network
from burnish.models.token_ids import bare_ids, cut_ids

PAIRS_AT_ONCE = 8192  # whose token ids are held at a time
_SHORT, _LONGER = ("a", "a"), ("a", "a a a a a a")


class TokenPair(NamedTuple):
    """A query and a passage as one row of token ids.

    types: 1 on the tokens of the passage, where the model tells the two apart by this; else empty.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()


class CrossEncoder:
    """A network that reads a query and a passage together and gives one number, higher is better.

    fresh: prefixes of the parameters that are new and untrained; until they are trained, scores mean nothing.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, *, max_tokens: int, fresh: tuple[str, ...] = ()) -> None:
        """Put the parts together; `load` reads them from a folder."""
        self.network = network
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.fresh = fresh

    @classmethod
    def load(cls, name: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> "CrossEncoder":
        """Load a CrossEncoder of sentence-transformers or a classifier of one label; any other gets a new head.

        A decoder with a new head reads its score at an end token behind each pair, which its tokenizer is made to put
        there; the saved tokenizer does so too. seed: of a new head's weights.

        Raises:
            ModelError: it cannot be found or is damaged, does something between pair and score that burnish would leave
                out, has no token to end or pad a text with, or scores a pair by the padding beside it.
        """
        folder = resolve(name)
        require_readable(folder)
        found = load_regressor(name, dtype=dtype, seed=seed, what="a re-ranker")
        network, tokenizer = found.model, found.tokenizer
        if (folder / "tokenizer_config.json").is_file():  # an adapter's own, which ends texts as it was trained to
            tokenizer = load_tokenizer(name, folder)
        if kind_of(name) == "causal":
            if found.fresh:
                _end_pairs(tokenizer, name)
            network.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        if dtype != torch.float32:
            _score_in_fp32(network)
        longest = longest_input(network, tokenizer)
        cross = cls(network, tokenizer, max_tokens=longest, fresh=found.fresh)
        cross._require_padding_unseen(name)
        return cross

    @property
    def longest(self) -> int:
        """Tokens that the network can read at once, special tokens included."""
        return longest_input(self.network, self.tokenizer)

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[TokenPair], int]:
        """Return the token ids of each pair, and how many were cut: at the end of the text that is then the longer one.

        Raises:
            ModelError: the model cannot read `max_tokens` tokens at once.
        """
        if self.max_tokens > self.longest:
            raise ModelError(
                f"{self.tokenizer.name_or_path}: pairs of up to {self.max_tokens} tokens are asked for, and this model "
                f"reads at most {self.longest}"
            )
        rows, cut = self._token_pairs(pairs, self.max_tokens)
        return rows, sum(cut)

    def score(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> list[float]:
        """Return the raw score of each (query, passage), in the order given; dropout is off.

        progress: called with how many different pairs are done, and how many there are.
        """
        return self.scored(pairs, progress=progress)[0]

    def scored(
        self, pairs: Sequence[tuple[str, str]], *, progress: Callable[[int, int], None]
    ) -> tuple[list[float], int]:
        """Return what `score` returns, and how many different pairs were cut.

        Equal pairs are read once, so that their scores are equal to the last digit.
        """
        unique = sorted(dict.fromkeys(pairs), key=lambda pair: -len(pair[0]) - len(pair[1]))  # similar lengths together
        found: dict[tuple[str, str], float] = {}
        cut = 0
        with still(self.network):
            for begin in range(0, len(unique), PAIRS_AT_ONCE):
                part = unique[begin : begin + PAIRS_AT_ONCE]
                rows, long = self.tokenize(part)
                cut += long
                for group in _groups(self.network, rows, None):
                    with torch.inference_mode():
                        values = _pass(self.network, [rows[place] for place in group]).tolist()
                    found.update(zip((part[place] for place in group), values, strict=True))
                    progress(len(found), len(unique))
        return [found[pair] for pair in pairs], cut

    def save(self, folder: Path) -> None:
        """Write a folder that `sentence_transformers.CrossEncoder` loads with equal scores, LoRA and (IA)³ merged.

        What cannot be merged (soft prompts, bottlenecks) stays an adapter's folder, which burnish reads back.
        """
        network: Any = self.network
        if isinstance(network, PeftModel) and not network.active_peft_config.is_prompt_learning:
            with quiet():
                network = copy.deepcopy(network).merge_and_unload()
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.model_max_length = self.max_tokens  # where every pair is cut, by whoever loads it
        save_network(network, tokenizer, folder)
        if (folder / "config.json").is_file():
            write_cross_layout(folder)

    def _token_pairs(self, pairs: Sequence[tuple[str, str]], max_tokens: int) -> tuple[list[TokenPair], list[bool]]:
        """Return the token ids of each pair, special tokens included, and whether it was cut."""
        queries, passages = [query for query, _ in pairs], [passage for _, passage in pairs]
        rows, cut = [], []
        for row in cut_ids(queries, self.tokenizer, seconds=passages, max_tokens=max_tokens):
            rows.append(TokenPair(tuple(row.ids), tuple(row.types)))
            cut.append(row.cut)
        typed = any(any(row.types) for row in rows)
        return rows if typed else [TokenPair(row.ids) for row in rows], cut

    @torch.no_grad()
    def _require_padding_unseen(self, name: str) -> None:
        """Check that a pair's score does not change with the padding beside it.

        Raises:
            ModelError: it does.
        """
        rows, _ = self._token_pairs([_SHORT, _LONGER], self.longest)
        alone, padded = _pass(self.network, rows[:1]).item(), _pass(self.network, rows)[0].item()
        exact = next(self.network.parameters()).dtype == torch.float32
        if abs(alone - padded) > (1e-3 if exact else 5e-2) * max(1.0, abs(alone)):
            raise ModelError(
                f"{name}: {type(self.network).__name__} scores a pair {alone:.4g} alone and {padded:.4g} beside a "
                "longer one: it reads the padding; use another model"
            )


def pair_scores(network: nn.Module, rows: Sequence[TokenPair], *, tokens_per_pass: int) -> Tensor:
    """Return (rows,) raw scores in fp32, in the order given; gradients flow where they are enabled.

    Rows of similar length go through the network together. tokens_per_pass: padded tokens that one pass holds.
    """
    groups = _groups(network, rows, tokens_per_pass)
    scores = torch.cat([_pass(network, [rows[place] for place in group]) for group in groups])
    order = torch.tensor([place for group in groups for place in group], device=scores.device)
    return scores[order.argsort()]


def _score_in_fp32(network: nn.Module) -> None:
    """Let the last layer compute in fp32: a bf16 score has three digits, and good passages would tie."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and layer.out_features == 1:
            layer.float().register_forward_pre_hook(lambda _layer, inputs: (inputs[0].float(),))


def _groups(network: nn.Module, rows: Sequence[TokenPair], tokens_per_pass: int | None) -> list[list[int]]:
    """Return which rows go through the network together; None: as much as suits the device."""
    budget = tokens_per_pass or tokens_at_once(network)
    return micro_batches(range(len(rows)), [len(row.ids) for row in rows], budget=budget)


def _pass(network: nn.Module, rows: Sequence[TokenPair]) -> Tensor:
    """Return (rows,) scores of rows that are padded together."""
    ids, mask = pad_right([row.ids for row in rows])
    types = pad_right([row.types for row in rows])[0] if rows[0].types else None
    logits: Tensor = network(**network_inputs(network, ids, mask, types)).logits
    return logits[:, 0].float()


def _end_pairs(tokenizer: Any, name: str) -> None:
    """Make a decoder's tokenizer put an end token behind each pair and a line end between its texts.

    The network reads its score at the last token that is no padding. Without an end that is the passage's last word;
    where padding and end are one token, the end is not seen either, so padding becomes another special token.

    Raises:
        ModelError: there is no end token, no other special token, or the tokenizer does not keep the ending when saved.
    """
    end = tokenizer.eos_token
    others = [token for token in tokenizer.all_special_tokens if token != end]
    if end is None or not others:
        raise ModelError(
            f"{name}: a decoder reads its score at an end token behind the pair, and its tokenizer has no "
            f"{'end token' if end is None else 'special token beside the end to pad with'}; use an encoder"
        )
    if tokenizer.pad_token is None or tokenizer.pad_token == end:
        tokenizer.pad_token = others[0]
    if tokenizer("a", "a")["input_ids"][-1] == tokenizer.eos_token_id:
        return
    first = tokenizer("a")["input_ids"][0]
    begin = [tokenizer.bos_token] if tokenizer.bos_token is not None and first == tokenizer.bos_token_id else []
    [apart] = bare_ids(["\n"], tokenizer)
    between = [int(token) for token in apart] or [tokenizer.eos_token_id]
    special = {"id": "between", "ids": between, "tokens": tokenizer.convert_ids_to_tokens(between)}
    named = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (*begin, end)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*begin, "$A", end], pair=[*begin, "$A", "between", "$B", end], special_tokens=[*named, special]
    )
    with tempfile.TemporaryDirectory() as folder, quiet():
        tokenizer.save_pretrained(folder)
        again = load_tokenizer(name, Path(folder))
    if again(*_LONGER)["input_ids"] != tokenizer(*_LONGER)["input_ids"]:
        raise ModelError(
            f"{name}: its tokenizer ({type(tokenizer).__name__}) forgets the end token behind a pair when it is saved, "
            "and other words would be scored; use an encoder"
        )
