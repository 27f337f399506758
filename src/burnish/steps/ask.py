"""Ask: a question in, an answer with its cited passages out."""

from pathlib import Path
from typing import Any

from burnish.errors import RunError
from burnish.generators import Generator
from burnish.prepare.corpus import Prepared
from burnish.prepare.folder import open_prepared
from burnish.prepare.shots import Shots
from burnish.prompt import PromptFormat, citations
from burnish.readers import Reader
from burnish.records import Question
from burnish.retrievers import Progress, Retriever
from burnish.run import read_json
from burnish.steps.shelf import Shelf

ASKED = "?"  # the id of the question: no training row's


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
    shelf = Shelf(_data(folder, pipeline), folder / "index", say=lambda _: None, progress=progress)
    retriever = Retriever.read(pipeline["retriever"]) if pipeline["retriever"] else None
    asked = [Question(id=ASKED, question=question)]
    [passages] = shelf.passages(asked, retriever, prompt.passages)
    text = ""
    if model or pipeline["generator"]:
        progress("loading the generator", 0, 1)
        settings = {"kind": "local", "model": _model(model), **_length(pipeline)} if model else pipeline["generator"]
        writer = Generator.read(settings).load()
        [shots] = shelf.shots(Shots.model_validate(pipeline.get("shots") or {}), asked, retriever, prompt)
        put = prompt.messages(question, passages, shots=shots)
        [text] = writer.write([put], done=lambda done: progress("answering", done, 1))
    numbers = citations(text) if prompt.cite else ()
    shown = [
        {**chunk.model_dump(), "cited": place in numbers if prompt.cite else bool(chunk.title) and chunk.title in text}
        for place, chunk in enumerate(passages, start=1)
    ]
    return {"question": question, "text": text, "abstained": prompt.abstains(text), "passages": shown}


def _data(folder: Path, pipeline: dict[str, Any]) -> Prepared:
    """Return the pipeline's passages and questions: as they were prepared, or from where rows were made of them."""
    source = pipeline.get("source")
    if not source:
        return open_prepared(folder / "data")
    chunks = Reader.read(source).load().chunks
    return Prepared(chunks, train=[], dev=[], test=[], rejected=[], leaks=[], near_duplicates=[], card={})


def _model(name: str | None) -> str:
    """Return the model that a run made, or the model itself."""
    assert name is not None
    return str(Path(name) / "model") if (Path(name) / "manifest.json").is_file() else name


def _length(pipeline: dict[str, Any]) -> dict[str, int]:
    """Return how much the pipeline's own generator may write, if it has one."""
    own = pipeline["generator"] or {}
    return {"max_new_tokens": own.get("max_new_tokens", 64)}
