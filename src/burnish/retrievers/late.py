"""Late-interaction retrieval: passages compared with a question token by token."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from burnish.models.late import LateEncoder
from burnish.models.late_folder import LateFormat
from burnish.models.maxsim import Packed, maxsim
from burnish.models.precision import chosen_dtype
from burnish.models.token_lists import TokenLists
from burnish.models.token_store import TokenStore
from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.run import new_folder, read_json, write_json
from burnish.text import fingerprint

QUERIES = 32  # questions compared with the whole corpus at a time
FIRST = 10  # ranks by which the index is tried
TRIED = 16  # passages that are taken for questions to try it


class Late(Retriever):
    """A late-interaction model (ColBERT): exact MaxSim with every passage, with another retriever's, or an index's.

    of: a retriever whose first `depth` passages are ranked anew; without it, a corpus of more than `exact_up_to`
    passages is searched by centroids of its tokens, and their most promising `depth` passages are compared exactly.
    Any encoder may stand in for the model: its token vectors are compared as they are.
    """

    model: str
    of: Retriever | None = None
    depth: int = Field(default=256, ge=1)
    probes: int = Field(default=8, ge=1)  # centroids that each token of a question looks at
    exact_up_to: int = Field(default=8192, ge=0)
    format: LateFormat | None = None  # None: the model's own

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        """Encode the tokens of the chunks, or find them in the cache: kept by model and by texts."""
        progress("loading the late-interaction model", 0, 1)
        encoder = LateEncoder.load(self.model, dtype=chosen_dtype())
        encoder.read_by(self.format or encoder.format)
        ids: dict[str, list[str]] = {}  # text → ids in descending order; texts in descending order of their first
        for chunk in sorted(chunks, key=lambda chunk: chunk.id, reverse=True):
            ids.setdefault(encoder.format.passage(chunk.title, chunk.text), []).append(chunk.id)
        kept = cache / f"{encoder.fingerprint()}-{fingerprint(*ids)}"
        if not (kept / "notes.json").is_file():
            with new_folder(kept) as beside:
                cut = TokenStore.write(
                    beside, encoder, list(ids), progress=lambda done, total: progress("encoding tokens", done, total)
                )
                write_json(beside / "notes.json", {f"passages cut at {encoder.format.passage_tokens} tokens": cut})
        notes = {reason: count for reason, count in read_json(kept / "notes.json").items() if count}
        store = TokenStore(kept)
        if self.of is not None:
            first = self.of.build(chunks, cache=cache, progress=progress)
            return _LateSearcher(self, encoder, store, [*ids.values()], {**first.notes, **notes}, first=first)
        if len(store) <= self.exact_up_to:
            return _LateSearcher(self, encoder, store, [*ids.values()], notes)
        lists, missed = self._indexed(store, kept.with_name(f"{kept.name}-lists"), progress)
        return _LateSearcher(self, encoder, store, [*ids.values()], {**notes, **missed}, lists=lists)

    def _indexed(self, store: TokenStore, kept: Path, progress: Progress) -> tuple[TokenLists, dict[str, int]]:
        """Return the index, and what it leaves out of the first passages by exact search, each computed once."""
        if not kept.is_dir():  # it got its name when it was whole
            progress("grouping tokens", 0, 1)
            with new_folder(kept) as beside:
                TokenLists.write(beside, store)
        lists = TokenLists(kept)
        told = kept / f"missed-{self.probes}-{self.depth}.json"
        if not told.is_file():
            progress("trying the index", 0, 1)
            write_json(told, {"missed": self._missed(store, lists)})
        reason = f"of the first {FIRST} for each of {TRIED} passages taken for questions, left out by the index"
        missed: int = read_json(told)["missed"]
        return lists, {reason: missed} if missed else {}

    def _missed(self, store: TokenStore, lists: TokenLists) -> int:
        """Return how many of the first passages by exact search are no candidates of the index."""
        draw = torch.Generator().manual_seed(0)
        drawn = torch.randperm(len(store), generator=draw)[:TRIED]
        queries = store.passages(drawn[store.lengths[drawn] > 0])
        best = store.scores(queries).topk(min(FIRST, len(store)), dim=1).indices
        found = [lists.candidates(query, probes=self.probes, count=self.depth) for query in queries.texts]
        return sum(int((~torch.isin(right, own)).sum()) for right, own in zip(best, found, strict=True))


class _LateSearcher:
    """Equal passages are one row, as in dense search."""

    def __init__(
        self,
        part: Late,
        encoder: LateEncoder,
        store: TokenStore,
        ids: list[list[str]],
        notes: dict[str, int],
        *,
        first: Searcher | None = None,
        lists: TokenLists | None = None,
    ) -> None:
        self.notes = notes
        self._part, self._encoder, self._store = part, encoder, store
        self._ids = ids
        self._row = {key: row for row, keys in enumerate(ids) for key in keys}
        self._first, self._lists = first, lists

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        if not questions or not self._ids:
            return [[] for _ in questions]
        queries = self._encoder.encode_queries([self._encoder.format.query(text) for text in questions]).texts
        if self._first is not None:
            hits = self._first.search(questions, max(k, self._part.depth))
            given = [{hit.id for hit in found} for found in hits]
            return [self._among(query, keys, k) for query, keys in zip(queries, given, strict=True)]
        if self._lists is None:
            return self._among_all(queries, k)
        count, probes = max(k, self._part.depth), self._part.probes
        places = [self._lists.candidates(query, probes=probes, count=count) for query in queries]
        return [self._compared(query, rows, k) for query, rows in zip(queries, places, strict=True)]

    def _among(self, query: Tensor, keys: set[str], k: int) -> list[Hit]:
        """Rank passages that another retriever found; of equal ones, those that it found."""
        rows = torch.tensor(sorted({self._row[key] for key in keys}), dtype=torch.long)
        return self._compared(query, rows, k, only=keys)

    def _among_all(self, queries: Sequence[Tensor], k: int) -> list[list[Hit]]:
        found = []
        for first in range(0, len(queries), QUERIES):
            part = queries[first : first + QUERIES]
            lengths = torch.tensor([len(query) for query in part])
            table = self._store.scores(Packed(torch.cat([*part]), lengths))
            for query, scores in zip(part, table, strict=True):
                bar = scores.topk(min(k, len(scores))).values[-1]
                rows = (scores >= bar).nonzero()[:, 0]
                found.append(self._hits(query, rows, scores[rows], k))
        return found

    def _compared(self, query: Tensor, rows: Tensor, k: int, *, only: set[str] | None = None) -> list[Hit]:
        """Compare a question's (tokens, width) vectors with some passages exactly."""
        scores = maxsim(Packed(query, torch.tensor([len(query)])), self._store.passages(rows))[0]
        return self._hits(query, rows, scores, k, only=only)

    def _hits(self, query: Tensor, rows: Tensor, scores: Tensor, k: int, *, only: set[str] | None = None) -> list[Hit]:
        tokens = max(1, len(query)) if self._encoder.format.mean else 1
        hits = [
            Hit(key, score / tokens)
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
            for key in self._ids[row]
            if only is None or key in only
        ]
        return sorted(hits, key=lambda hit: (hit.score, hit.id), reverse=True)[:k]
