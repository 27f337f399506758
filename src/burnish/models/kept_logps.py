"""What a generator that stands still says of answers, kept in a file: each prompt with its answer is read once."""

import hashlib
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from burnish.cache import cache_folder
from burnish.errors import RunError
from burnish.models.answers_apart import Row
from burnish.models.weight_digest import weights_digest

WAIT = 600  # seconds that one process waits while another writes


class KeptLogps:
    """ln of the probabilities of answers' tokens by one generator, in one file for all runs that hold it still.

    What a call has read is written as one, or, where it is killed, not at all. Several processes may use the file.
    """

    def __init__(self, path: Path) -> None:
        """Open the file of one generator (`answers_file`), or begin it.

        Raises:
            RunError: it cannot be written, or is no such file.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, timeout=WAIT)
        with self._written() as file:
            file.execute("CREATE TABLE IF NOT EXISTS logps (row BLOB PRIMARY KEY, fp32 BLOB) WITHOUT ROWID")

    def of(self, rows: Sequence[Row], read: Callable[[Sequence[int]], Sequence[Tensor]]) -> list[Tensor]:
        """Return for each row (tokens of its answer,), fp32, on the processor.

        read: is asked for the rows that are not kept, each once, by their places. In what company a row is read moves
        its last digits, and so does what earlier runs have kept; a run that was killed meets what it had kept itself,
        and goes on bit for bit.
        """
        keys = [_key(row) for row in rows]
        known: dict[bytes, bytes] = {}
        for key in dict.fromkeys(keys):
            found = self._file.execute("SELECT fp32 FROM logps WHERE row = ?", (key,)).fetchone()
            if found:
                known[key] = found[0]
        new = {key: place for place, key in enumerate(keys) if key not in known}
        if new:
            fresh = [logps.detach().float().cpu().numpy().tobytes() for logps in read([*new.values()])]
            known |= zip(new, fresh, strict=True)
            with self._written() as file:
                file.executemany("INSERT OR IGNORE INTO logps VALUES (?, ?)", zip(new, fresh, strict=True))
        return [torch.frombuffer(bytearray(known[key]), dtype=torch.float32) for key in keys]

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        """Yield the file; what is written in the block is kept as one, or not at all.

        Raises:
            RunError: it cannot be written.
        """
        try:
            with self._file:
                yield self._file
        except sqlite3.Error as error:
            raise RunError(
                f"{self._path}: what the generator says of answers cannot be kept there ({error}); free the place, or "
                "remove the file, and go on"
            ) from error


def answers_file(network: nn.Module) -> Path:
    """Return where a generator's answers are kept: a file that its weights name, in the numbers that it computes in."""
    return cache_folder() / "answers" / f"{weights_digest('', sorted(network.named_parameters()))}.sqlite"


def _key(row: Row) -> bytes:
    prompt, answer = row
    return hashlib.sha256(array("q", [len(prompt), *prompt, *answer]).tobytes()).digest()
