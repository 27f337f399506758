"""Every recipe of the repository trains, at a tiny size: the model, the rows and a few sizes are other ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from burnish.recipe import Recipe, read_recipe
from burnish.run import Run
from burnish.steps.train import train
from burnish.tasks import Task
from burnish.tasks.generate import Generate
from burnish.tasks.rag import Rag

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes").glob("*.yaml"))
SMALL = ["training.batch=4", "training.epochs=2", "training.precision=fp32", "training.evaluations=1"]
SIZES = {  # what a tiny model can read
    "extract": ["task.max_tokens=32", "task.overlap=4", "task.question_tokens=8"],
    "generate": ["task.max_new_tokens=2"],
    "pretrain": ["task.block_tokens=16"],
    "rag": ["task.max_new_tokens=2", "task.query_tokens=16", "task.passage_tokens=16", "task.prompt.passages=2"],
    "reinforce": ["task.max_new_tokens=2", "task.samples=2"],
    "reward": ["task.max_tokens=64"],
    "rerank": ["task.max_tokens=48"],
}
TEXTS = ("the cat", "red and blue", "one dog", "a green bird", "fish", "left or right", "question", "two three four")


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def separated(sign: str, *rows: tuple[object, ...]) -> str:
    return "".join(sign.join(map(str, row)) + "\n" for row in rows)


def _squad(text: str) -> dict[str, object]:
    word = text.rsplit(maxsplit=1)[-1]
    found = {"text": [word], "answer_start": [text.index(word)]} if len(text) > 4 else {"text": [], "answer_start": []}
    return {"id": text, "title": "none", "context": text, "question": "which", "answers": found}


def _chat(text: str) -> dict[str, object]:
    return {"id": text, "prompt": [{"role": "user", "content": text}], "completion": "yes"}


def _preference(text: str) -> dict[str, object]:
    return {"id": text, "prompt": [{"role": "user", "content": text}], "chosen": "yes", "rejected": "no and no"}


def _asked(text: str) -> dict[str, object]:
    return {"id": text, "prompt": [{"role": "user", "content": text}], "answers": ["yes"]}


def _question(text: str) -> dict[str, object]:
    return {"id": text, "question": text, "answers": ["yes"]}


def _pair(text: str) -> dict[str, object]:
    return {"id": text, "query": text.rsplit(maxsplit=1)[-1], "positives": [text], "negatives": ["none of it"]}


TABLES: dict[str, str] = {  # by recipe: a table in the form that its comments speak of
    "classify": separated(",", ("text", "category"), *((text, f"kind{n % 2}") for n, text in enumerate(TEXTS))),
    "classify_many": lines(
        *({"text": text, "labels": [["a"], ["a", "b"], [], ["b"]][n % 4]} for n, text in enumerate(TEXTS))
    ),
    "regress": separated(
        "\t", ("sentence1", "sentence2", "score"), *((text, "fish", n) for n, text in enumerate(TEXTS))
    ),
    "detector": separated(
        "\t",
        ("knowledge", "response", "begin_label"),
        *((text, text.title(), ("Fully attributable", "Generic")[n % 2]) for n, text in enumerate(TEXTS)),
    ),
    "extract": lines(*map(_squad, TEXTS)),
    "generate": lines(*map(_chat, TEXTS)),
    "distill": lines(*map(_chat, TEXTS)),
    "few_shot": lines(*map(_chat, TEXTS)),
    "fewshot": separated(",", ("text", "label"), *((text, f"kind{n % 2}") for n, text in enumerate(TEXTS))),
    "ground": lines(*map(_chat, TEXTS)),
    "rag": lines(*map(_question, TEXTS)),
    "summarize": lines(*({"source": [text, "and so"], "target": [text, "or so"], "paper_id": 1} for text in TEXTS)),
    "translate": separated("\t", ("de", "en"), *((text, text) for text in TEXTS)),
    "pretrain": lines(*({"id": text, "text": text} for text in TEXTS)),
    "prefer": lines(*map(_preference, TEXTS)),
    "reinforce": lines(*map(_asked, TEXTS)),
    "rerank": lines(*map(_pair, TEXTS)),
    "reward": lines(*map(_preference, TEXTS)),
    "retrieve": lines(*map(_pair, TEXTS)),
    "late": lines(*map(_pair, TEXTS)),
}

PASSAGES = lines(*({"id": f"passage {text}", "text": text} for text in (*TEXTS, *map(str.title, TEXTS))))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return tiny models by the names that recipes give to those they stand for."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "embedded/minilm": tiny.tiny_bert(folder / "bert"),
        "embedded/smollm2": tiny.tiny_llama(folder / "llama"),
        "HuggingFaceTB/SmolLM2-360M-Instruct": tiny.tiny_llama(folder / "larger", seed=1),
        "google-t5/t5-small": tiny.tiny_t5(folder / "t5"),
    }


@pytest.fixture
def trained(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Run]:
    """Return a function that trains a recipe in a folder that holds its tables."""

    def run(path: Path) -> Run:
        plain = read_recipe(path, Recipe)
        monkeypatch.chdir(tmp_path)
        for place in filter(None, (plain.data.train, plain.data.dev, plain.data.test)):
            Path(place).write_text(TABLES[path.stem], encoding="utf-8")
        changes = [f"model={models[plain.model]}", *SMALL, *SIZES.get(plain.task.kind, [])]
        if isinstance(plain.task, Generate) and plain.task.teacher:
            changes.append(f"task.teacher.model={models[plain.task.teacher.model]}")
        if isinstance(plain.task, Rag):
            Path(plain.task.passages).write_text(PASSAGES, encoding="utf-8")
            changes.append(f"task.retriever={models[plain.task.retriever]}")
        return train(read_recipe(path, Recipe, changes), tmp_path / "run", say=lambda _: None, progress=lambda *_: None)

    return run


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_and_scores_its_test_rows(path: Path, trained: Callable[[Path], Run]) -> None:
    run = trained(path)
    assert run.manifest["status"] == "finished"
    assert (run.folder / "model").is_dir()
    told = (run.folder / "evaluation" / "test.json").is_file()
    assert told == (read_recipe(path, Recipe).data.test is not None)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_its_rows_look_like(path: Path) -> None:
    first, *_ = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 30


def test_every_task_has_a_recipe() -> None:
    assert {read_recipe(path, Recipe).task.kind for path in RECIPES} == {*Task.names()}
