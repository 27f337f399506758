"""The recipe of a ladder: a source, what is trained on it, and the rungs that are measured."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from burnish.errors import RecipeError, near_miss
from burnish.generators import Generator
from burnish.grounding import Grounder
from burnish.methods import Method
from burnish.metrics import Metric
from burnish.prepare.ground import Grounding
from burnish.prepare.mining import Rules
from burnish.prepare.shots import Shots
from burnish.prompt import PromptFormat
from burnish.readers import Reader
from burnish.recipe import TRAINED
from burnish.retrievers import Retriever
from burnish.spec import Spec
from burnish.tasks import Task
from burnish.train.settings import Training

RETRIEVAL = ("nDCG@10", "MRR@10", "Recall@1", "Recall@10")
ANSWER = ("exact_match", "token_f1")


def _metrics(*names: str) -> tuple[Metric, ...]:
    return tuple(Metric.read(name) for name in names)


class Corpus(Spec):
    """What a ladder stands on: a source, and how its questions are split (by group, without leaks)."""

    reader: Reader
    dev: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)


class Mining(Rules):
    """Hard negatives: what this retriever ranks high and no label calls right."""

    retriever: Retriever
    per_question: int = Field(default=1, ge=0)
    contains_answer: bool = False  # a ladder's answers may be names, which passages mention that answer nothing


class TrainedPart(Spec):
    """What the two trainings of a ladder have in common."""

    model: str
    task: Task
    method: Method
    training: Training = Training()
    dev_rows: int = Field(default=200, ge=1)


class TrainedRetriever(TrainedPart):
    """The ladder's retriever: trained on the training questions, with mined negatives."""

    negatives: Mining


class TrainedGenerator(TrainedPart):
    """The ladder's generator: trained on training questions with the passages of a retriever.

    ground: how rows are made of what was found; None keeps the questions whose right passage is among those shown, in
    the retriever's order. Shots are shown in the prompts that it learns, as a rung would show them.
    """

    passages: Retriever | Literal["best"] = "best"
    rows: int | None = Field(default=None, ge=1)  # None: every training question
    ground: Grounding | None = None
    shots: Shots = Shots()


class TrainedJoint(TrainedPart):
    """Both halves of the ladder, trained on together by questions and answers; kept only if better on dev.

    model: the generator to begin with, task.retriever the retriever, each a model or `trained/…`; the task is `rag`,
    whose passages and prompt are the ladder's whatever they say. Rungs use `trained/joint-retriever` and
    `trained/joint-generator`; the first that does is measured on `dev_rows` dev questions with the halves as they were
    and as they became, and where they did not become better, these names stand for what they were.
    """

    model: str = f"{TRAINED}generator"
    rows: int | None = Field(default=None, ge=1)  # None: every training question with an answer

    @field_validator("task")
    @classmethod
    def _is_of_both(cls, task: Task) -> Task:
        """Check that the task has two halves.

        Raises:
            RecipeError: it has not.
        """
        if task.kind != "rag":
            raise RecipeError(f"joint trains a retriever and a generator: the task is rag, not {task.kind}")
        return task


class Rung(Spec):
    """One way to do the job: a retriever alone, or a generator with or without one."""

    name: str
    retriever: Retriever | Literal["best"] | None = None
    generator: Generator | None = None
    shots: Shots = Shots()  # training questions shown as examples in the prompt
    pick: str | None = None  # the first match of this pattern in the text counts as the answer, if there is one

    @model_validator(mode="after")
    def _does_something(self) -> "Rung":
        if self.generator is None and (self.retriever is None or self.retriever == "best"):
            raise RecipeError(f"rung {self.name!r} needs a retriever of its own or a generator")
        if self.generator is None and self.shots.count:
            raise RecipeError(f"rung {self.name!r} has no generator to show examples to: leave `shots` out")
        return self


class Ladder(Spec):
    """The same held-out questions, answered rung by rung."""

    name: str
    seed: int = 0
    corpus: Corpus
    retriever: TrainedRetriever | None = None
    generator: TrainedGenerator | None = None
    joint: TrainedJoint | None = None
    prompt: PromptFormat = PromptFormat()
    retrieval_metrics: tuple[Metric, ...] = Field(default_factory=lambda: _metrics(*RETRIEVAL), min_length=1)
    answer_metrics: tuple[Metric, ...] = Field(default_factory=lambda: _metrics(*ANSWER), min_length=1)
    grounding: Grounder = Field(
        default_factory=lambda: Grounder.read("lexical")
    )  # for metrics that ask what bears them
    answer_questions: int = Field(default=160, ge=1)  # a fixed sample of the test questions for the answer rungs
    rungs: tuple[Rung, ...] = Field(min_length=1)
    compare: tuple[tuple[str, str], ...] = ()  # further paired comparisons: [ours, theirs] by the rungs' names

    @field_validator("rungs")
    @classmethod
    def _names_differ(cls, rungs: tuple[Rung, ...]) -> tuple[Rung, ...]:
        names = [rung.name for rung in rungs]
        for name in names:
            if names.count(name) > 1:
                raise RecipeError(f"two rungs are called {name!r}")
        return rungs

    @model_validator(mode="after")
    def _has_a_sentence_to_abstain_with(self) -> "Ladder":
        """Check that rows without a right passage have something to teach.

        Raises:
            RecipeError: they are to abstain, and the prompt has no sentence for it.
        """
        ground = self.generator.ground if self.generator else None
        if ground and ground.without_gold == "abstain" and not self.prompt.abstain:
            raise RecipeError(
                "generator.ground teaches to abstain where no passage holds the answer, and prompt.abstain is empty; "
                "write there what is to be said, for example: The passages do not tell."
            )
        return self

    @field_validator("answer_metrics")
    @classmethod
    def _tell_right_answers_first(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        """Check that rungs can be compared: the first metric has a score for every answer, and says which are right.

        Raises:
            RecipeError: the first one reads something else than answers, or one gives no answer a score of its own.
        """
        if metrics[0].reads != "answers":
            raise RecipeError(
                f"the first of answer_metrics tells right answers from wrong ones; {metrics[0].label} does not"
            )
        whole = [metric.label for metric in metrics if not metric.is_mean]
        if whole:
            raise RecipeError(f"{whole[0]} gives a single answer no score, and rungs are compared answer by answer")
        return metrics

    @model_validator(mode="after")
    def _knows_what_it_names(self) -> "Ladder":
        labels = [metric.label for metric in (*self.retrieval_metrics, *self.answer_metrics)]
        for label in labels:
            if labels.count(label) > 1:
                raise RecipeError(f"two metrics are called {label!r}; keep one of them")
        names = [rung.name for rung in self.rungs]
        for name in (name for pair in self.compare for name in pair):
            if name not in names:
                raise RecipeError(f"compare: no rung is called {name!r}.{near_miss(name, names)}")
        users = [(f"rung {rung.name!r}", rung.model_dump_json()) for rung in self.rungs]
        users += [("joint", self.joint.model_dump_json())] if self.joint else []
        for user, text in users:
            for part in ("retriever", "generator", "joint"):
                if getattr(self, part) is None and f"{TRAINED}{part}" in text:
                    raise RecipeError(f"{user} uses {TRAINED}{part}, and the recipe has no `{part}:`")
        return self
