"""Recipes: a whole run in one readable file, and how such files are read and written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import yaml
from pydantic import Field, ValidationError, model_validator

from burnish.cache import cache_folder
from burnish.errors import RecipeError, near_miss
from burnish.methods import Method
from burnish.prepare.judged import held_out_pairs, is_beir, training_pairs
from burnish.prepare.shots import Shots, with_shots
from burnish.records import Completion, Document, Pair, Record
from burnish.sequences import Joined
from burnish.spec import Spec, faults
from burnish.tables import columns_of, read_rows
from burnish.tasks import Task
from burnish.train.mixing import Sets
from burnish.train.settings import Training

S = TypeVar("S", bound=Spec)
R = TypeVar("R", bound=Record)

SIDES: tuple[Literal["train", "dev", "test"], ...] = ("train", "dev", "test")
TRAINED = "trained/"  # `trained/retriever` in a ladder is the model that the ladder itself trains


def _method(name: str) -> Method:
    found: Method = Method.read(name)
    return found


class Rehearsal(Spec):
    """Rows of what the model should not forget, mixed into the training rows as their equals.

    share: of each step's rows. Continued pre-training kept its old skill with 5 % where the new texts were close to
    the old ones and 25 % where they were another language (Ibrahim et al. 2024, arXiv 2403.08763); 0.1 lies between.
    """

    file: str  # a table of the task's record, read as the training rows are
    share: float = Field(default=0.1, gt=0, lt=1)


class Weighted(Spec):
    """One of several sets of training rows, and what it weighs against the others."""

    file: str
    weight: float | None = Field(default=None, gt=0)  # on any scale; None: its number of rows


class Mixture(Spec):
    """Several sets of training rows, mixed by weight; a set begins anew once all its rows had their turn.

    An epoch has as many steps as all the sets' rows need. A list alone is short for {sets: …}.
    """

    sets: tuple[Weighted, ...] = Field(min_length=2)
    step_of: Literal["one_set", "all_sets"] = "one_set"  # negatives of another set are easy: told apart by their kind

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"sets": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _weighs_all_or_none(self) -> "Mixture":
        """Check that weights can be compared.

        Raises:
            RecipeError: some sets have one and others have none.
        """
        without = [found.file for found in self.sets if found.weight is None]
        if 0 < len(without) < len(self.sets):
            raise RecipeError(
                f"the set {without[0]} has no weight and others have one; give each a weight, or none to go by rows"
            )
        return self


class Files(Spec):
    """Where the rows of a training run stand: tables of any kind that `tables.read_rows` reads, or BEIR folders.

    Of a BEIR folder, for tasks that learn from pairs, train, dev and test read the judgements of the same name. The
    rows of dev and test then hold the whole corpus between them, so that retrieval is scored against all of it.
    """

    train: str | Mixture
    dev: str | None = None
    test: str | None = None  # never seen in training: scored with intervals at its end
    general: str | None = None  # texts, or pairs of another domain: scored before and after, to see what was forgotten
    rehearsal: Rehearsal | None = None
    columns: dict[str, str] = Field(default_factory=dict)  # field of the task's record → column of the table
    shots: Shots | None = None  # training rows that every prompt shows as examples, also while it is learned

    def rows(self, side: Literal["train", "dev", "test"], record: type[R]) -> Sequence[R]:
        """Return the rows of one side; none where the recipe names no file for it.

        Raises:
            DataError: the table is missing or has faults; all of them are listed.
        """
        if side == "train":
            return Joined(self.sets(record))
        place = self.dev if side == "dev" else self.test
        return self.prompted(self.rows_at(place, side, record), record) if place else []

    def sets(self, record: type[R]) -> list[Sequence[R]]:
        """Return the training rows set by set.

        Raises:
            DataError: a table is missing or has faults; all of the first such table are listed.
        """
        return [self.prompted(rows, record) for rows in self._plain_sets(record)]

    def _plain_sets(self, record: type[R]) -> list[Sequence[R]]:
        return [self.rows_at(place, "train", record) for place in self.training_places]

    def prompted(self, rows: Sequence[R], record: type[R]) -> Sequence[R]:
        """Return rows as they are put to the model: with examples in their prompts, where `shots` asks for any.

        Raises:
            DataError: the training rows have faults, or are too few to show some.
        """
        if not self.shots or not self.shots.count or not rows or record is not Completion:
            return rows
        pool = cast(Sequence[Completion], Joined(self._plain_sets(record)))
        cache = cache_folder() / "shots"
        plain = cast(Sequence[Completion], rows)
        return cast(Sequence[R], with_shots(plain, pool, self.shots, cache=cache, progress=lambda *_: None))

    def mixed(self, sizes: Sequence[int], rows: Sequence[int]) -> Sets | None:
        """Return how the sets are mixed, where there are several; sizes: items of each; rows: of each."""
        if isinstance(self.train, str):
            return None
        weights = [found.weight or float(n) for found, n in zip(self.train.sets, rows, strict=True)]
        return Sets(tuple(sizes), tuple(weights), self.train.step_of == "one_set")

    @property
    def training_places(self) -> list[str]:
        """Return where the training rows stand: one place, or one a set."""
        return [self.train] if isinstance(self.train, str) else [found.file for found in self.train.sets]

    def rows_at(self, place: str, side: Literal["train", "dev", "test"], record: type[R]) -> Sequence[R]:
        """Return the rows of a table, or of a BEIR folder for a task that reads pairs.

        Raises:
            DataError: the table is missing or has faults; all of them are listed.
        """
        if is_beir(place) and record is Pair:
            return cast(list[R], training_pairs(place) if side == "train" else held_out_pairs(place, side))
        return read_rows(place, record, self.columns)

    def rehearsed(self, record: type[R]) -> Sequence[R]:
        """Return the rows that are mixed into those of training, if there are any.

        Raises:
            DataError: the table is missing or has faults; all of them are listed.
        """
        return self.rows_at(self.rehearsal.file, "train", record) if self.rehearsal else []

    def general_rows(self, record: type[Record]) -> Sequence[Record]:
        """Return what tells of forgetting, if any: documents of a column `text`, or pairs for tasks of pairs.

        Pairs stand in a BEIR folder (its test judgements are read), or in a table without such a column.

        Raises:
            DataError: the table is missing or has faults; all of them are listed.
        """
        if not self.general:
            return []
        if record is Pair and (is_beir(self.general) or "text" not in columns_of(self.general)):
            return self.rows_at(self.general, "test", record)
        return read_rows(self.general, Document, {"text": "text"})


class Recipe(Spec):
    """One training run."""

    task: Task
    model: str
    method: Method = Field(default_factory=lambda: _method("full"))
    start: str | None = None  # a folder with an adapter of the method, whose weights training begins with
    data: Files
    training: Training = Training()
    seed: int = 0

    @model_validator(mode="after")
    def _has_prompts_to_show_examples_in(self) -> "Recipe":
        """Check that examples are asked for where there are prompts.

        Raises:
            RecipeError: the task's rows have none.
        """
        if self.data.shots and self.task.record is not Completion:
            raise RecipeError(
                f"data.shots: the rows of the task {self.task.kind} have no prompt and completion to show as examples; "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def _can_be_saved(self) -> "Recipe":
        """Check that what is merged when it is saved has weights to be merged into.

        Raises:
            RecipeError: they are held in four bits.
        """
        if self.task.saves_merged and self.method.rounds_base:
            raise RecipeError(
                f"method.quantize: a model of the task {self.task.kind} is saved with the update merged into its "
                "weights, which would be those of four bits; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _has_room_to_rehearse(self) -> "Recipe":
        """Check that a step can hold rows of both kinds.

        Raises:
            RecipeError: it holds one row.
        """
        if self.data.rehearsal and self.training.batch < 2:
            raise RecipeError("data.rehearsal needs a row of each kind in every step, and training.batch is 1")
        return self

    @model_validator(mode="after")
    def _has_room_for_all_sets(self) -> "Recipe":
        """Check that a step can hold rows of every set, where it is to.

        Raises:
            RecipeError: it holds fewer rows.
        """
        mix, rehearsal = self.data.train, self.data.rehearsal
        room = self.training.batch - (max(1, round(rehearsal.share * self.training.batch)) if rehearsal else 0)
        if isinstance(mix, Mixture) and mix.step_of == "all_sets" and room < len(mix.sets):
            raise RecipeError(
                f"data.train.step_of all_sets needs a row of each of the {len(mix.sets)} sets in every step, and "
                f"training.batch leaves room for {room}"
            )
        return self


def read_recipe(path: Path, kind: type[S], overrides: Sequence[str] = ()) -> S:
    """Read a recipe, with `a.b=value` overrides applied before it is checked.

    Raises:
        RecipeError: the file is missing or not YAML, or has faults; all of them are listed.
    """
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise RecipeError(f"{path}: there is no such file.{near_miss(path.name, siblings)}")
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: this is not a recipe in YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: this file is not UTF-8 text") from error
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: a recipe is a list of `key: value` lines, and this file holds something else")
    return checked(value, kind, overrides, where=str(path))


def checked(value: dict[str, Any], kind: type[S], overrides: Sequence[str] = (), *, where: str) -> S:
    """Return settings as a recipe, with `a.b=value` overrides applied before it is checked; `where` begins a message.

    Raises:
        RecipeError: they have faults; all of them are listed.
    """
    for override in overrides:
        _set(value, override)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        lines = "\n".join(f"  {fault}" for fault in faults(error, kind))
        raise RecipeError(f"{where}: this recipe cannot be run\n{lines}") from error


def to_yaml(spec: Spec) -> str:
    """Return a recipe as YAML with every default written out: what was run, in full."""
    text: str = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
    return text


def placed(spec: S, models: dict[str, Path]) -> S:
    """Return the settings with each `trained/NAME` turned into the folder of that model."""
    return type(spec).model_validate(_replaced(spec.model_dump(mode="json"), models))


def _replaced(value: Any, models: dict[str, Path]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner, models) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(inner, models) for inner in value]
    if isinstance(value, str) and value.startswith(TRAINED) and value.removeprefix(TRAINED) in models:
        return str(models[value.removeprefix(TRAINED)])
    return value


def _set(value: dict[str, Any], override: str) -> None:
    """Apply one `a.b=value` override; the value is read as YAML.

    Raises:
        RecipeError: the override has no `=`, or goes through something that is not a section.
    """
    place, sign, text = override.partition("=")
    if not sign:
        raise RecipeError(f"--set {override}: write it as key=value, for example training.epochs=1")
    *sections, last = place.split(".")
    inner: Any = value
    for section in sections:
        if isinstance(inner.get(section), str):  # `method: lora` is short for `{kind: lora}`
            inner[section] = {"kind": inner[section]}
        inner = inner.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: {section!r} is not a section of the recipe")
    inner[last] = yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """YAML's safe part, with repeated keys and aliases refused: neither is ever meant in a recipe."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "recipes have no aliases (*name)", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
        return super().construct_mapping(node, deep)
