"""Ask: a question in, an answer with its cited passages out."""

from pathlib import Path
from typing import Any

from burnish.errors import RunError
from burnish.generators import Generator
from burnish.prepare.folder import open_prepared
from burnish.prompt import PromptFormat
from burnish.retrievers import Progress, Retriever
from burnish.run import read_json


def ask(folder: Path, question: str, *, progress: Progress) -> dict[str, Any]:
    """Answer with the pipeline that the ladder in `folder` adapted.

    Returns the text and the passages shown; a passage is cited when the answer holds its title.

    Raises:
        RunError: the folder holds no finished ladder.
    """
    if not (folder / "pipeline.json").is_file():
        raise RunError(f"{folder}: no finished ladder stands here; `burnish ladder RECIPE` or `burnish demo` makes one")
    pipeline = read_json(folder / "pipeline.json")
    prompt = PromptFormat(**pipeline["prompt"])
    chunks = open_prepared(folder / "data").chunks
    passages = []
    if pipeline["retriever"]:
        searcher = Retriever.read(pipeline["retriever"]).build(chunks, cache=folder / "index", progress=progress)
        by_id = {chunk.id: chunk for chunk in chunks}
        passages = [by_id[hit.id] for hit in searcher.search([question], prompt.passages)[0]]
    text = ""
    if pipeline["generator"]:
        progress("loading the generator", 0, 1)
        writer = Generator.read(pipeline["generator"]).load()
        [text] = writer.write([prompt.messages(question, passages)], done=lambda done: progress("answering", done, 1))
    shown = [{**chunk.model_dump(), "cited": bool(chunk.title) and chunk.title in text} for chunk in passages]
    return {"question": question, "text": text, "passages": shown}
