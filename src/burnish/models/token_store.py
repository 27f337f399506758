"""The token vectors of a corpus: in half precision, in a file that is read from disk where it is needed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from burnish.models.late import LateEncoder
from burnish.models.maxsim import Packed, maxsim

_VECTORS, _LENGTHS = "vectors.npy", "lengths.safetensors"
BLOCK = 1 << 16  # tokens that are read into memory at a time


class TokenStore:
    """The vectors of each passage's compared tokens; half precision leaves a score of unit vectors 3 digits."""

    def __init__(self, folder: Path) -> None:
        """Open what `write` has written; vectors stay on disk."""
        self.lengths = load_file(folder / _LENGTHS)["lengths"]
        self.firsts = self.lengths.cumsum(0) - self.lengths
        self._vectors: Any = np.load(folder / _VECTORS, mmap_mode="r", allow_pickle=False)

    @classmethod
    def write(
        cls, folder: Path, encoder: LateEncoder, texts: Sequence[str], *, progress: Callable[[int, int], None]
    ) -> int:
        """Encode passages, as `format.passage` returns these, into a folder that exists; return how many were cut.

        Vectors go to their places as they are made: memory does not grow with the corpus but for its token ids.
        """
        ids, cut = encoder.encoder.tokenize(texts, max_tokens=encoder.format.passage_tokens)
        rows = encoder.passage_rows(ids)
        lengths = torch.tensor([sum(row.compared) for row in rows], dtype=torch.long)
        firsts = (lengths.cumsum(0) - lengths).tolist()
        shape = (max(1, int(lengths.sum())), encoder.width)  # an empty file cannot be mapped
        vectors = np.lib.format.open_memmap(folder / _VECTORS, mode="w+", dtype=np.float16, shape=shape)
        done = 0
        for group, found in encoder.stream(rows):
            for row, text in zip(group, found.texts, strict=True):
                vectors[firsts[row] : firsts[row] + len(text)] = text.half().numpy()
            done += len(group)
            progress(done, len(rows))
        vectors.flush()
        save_file({"lengths": lengths}, folder / _LENGTHS)
        return cut

    def __len__(self) -> int:
        """Return how many passages there are."""
        return len(self.lengths)

    def tokens(self, first: int, last: int) -> Tensor:
        """Return (tokens, width) vectors in fp32, of a stretch of all passages' tokens."""
        return torch.from_numpy(self._vectors[first:last].astype(np.float32))

    def passages(self, rows: Tensor) -> Packed:
        """Return the vectors of some passages in fp32."""
        lengths = self.lengths[rows]
        inside = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        places = self.firsts[rows].repeat_interleave(lengths) + inside
        return Packed(torch.from_numpy(self._vectors[places.numpy()].astype(np.float32)), lengths)

    def scores(self, queries: Packed) -> Tensor:
        """Return (queries, passages) MaxSim with every passage, a block of passages in memory at a time."""
        found = torch.empty(len(queries.lengths), len(self))
        first = 0
        ends = self.firsts + self.lengths
        while first < len(self):
            bar = self.firsts[first] + BLOCK
            last = max(first + 1, int(torch.searchsorted(ends, bar, right=True)))
            block = Packed(self.tokens(int(self.firsts[first]), int(ends[last - 1])), self.lengths[first:last])
            found[:, first:last] = maxsim(queries, block)
            first = last
        return found
