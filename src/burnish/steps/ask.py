"""Ask: a question in, an answer with its cited passages out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.errors import RunError
from burnish.generators import Generator
from burnish.prepare.folder import open_prepared
from burnish.prompt import PromptFormat, citations
from burnish.readers import Reader
from burnish.records import Chunk
from burnish.retrievers import Progress, Retriever
from burnish.run import read_json


def ask(folder: Path, question: str, *, model: str | None = None, progress: Progress) -> dict[str, Any]:
    """Answer with the pipeline of a folder: that a ladder adapted, or that `burnish ground` made rows with.

    model: writes the answer in the place of the pipeline's own generator; a model, or a run that trained one.

    Returns the text, whether it says that the passages hold no answer, and the passages shown. A passage is cited when
    the answer has its number, as in [2]; where the prompt does not ask for that, when the answer holds its title.

    Raises:
        RunError: the folder holds no finished pipeline.
    """
    if not (folder / "pipeline.json").is_file():
        raise RunError(f"{folder}: no finished ladder stands here; `burnish ladder RECIPE` or `burnish demo` makes one")
    pipeline = read_json(folder / "pipeline.json")
    prompt = PromptFormat(**pipeline["prompt"])
    chunks = _chunks(folder, pipeline)
    passages = []
    if pipeline["retriever"]:
        searcher = Retriever.read(pipeline["retriever"]).build(chunks, cache=folder / "index", progress=progress)
        by_id = {chunk.id: chunk for chunk in chunks}
        passages = [by_id[hit.id] for hit in searcher.search([question], prompt.passages)[0]]
    text = ""
    if model or pipeline["generator"]:
        progress("loading the generator", 0, 1)
        settings = {"kind": "local", "model": _model(model), **_length(pipeline)} if model else pipeline["generator"]
        writer = Generator.read(settings).load()
        [text] = writer.write([prompt.messages(question, passages)], done=lambda done: progress("answering", done, 1))
    numbers = citations(text) if prompt.cite else ()
    shown = [
        {**chunk.model_dump(), "cited": place in numbers if prompt.cite else bool(chunk.title) and chunk.title in text}
        for place, chunk in enumerate(passages, start=1)
    ]
    return {"question": question, "text": text, "abstained": prompt.abstains(text), "passages": shown}


def _chunks(folder: Path, pipeline: dict[str, Any]) -> Sequence[Chunk]:
    """Return the pipeline's passages: as a ladder prepared them, or from where rows were made of them."""
    source = pipeline.get("source")
    return Reader.read(source).load().chunks if source else open_prepared(folder / "data").chunks


def _model(name: str | None) -> str:
    """Return the model that a run made, or the model itself."""
    assert name is not None
    return str(Path(name) / "model") if (Path(name) / "manifest.json").is_file() else name


def _length(pipeline: dict[str, Any]) -> dict[str, int]:
    """Return how much the pipeline's own generator may write, if it has one."""
    own = pipeline["generator"] or {}
    return {"max_new_tokens": own.get("max_new_tokens", 64)}
