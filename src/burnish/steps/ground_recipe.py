"""What rows of retrieval-augmented generation are made by: the source, who searches, the prompt, and what is taught."""

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from burnish.errors import RecipeError
from burnish.prepare.ground import Grounding
from burnish.prepare.judged import is_beir
from burnish.prompt import PromptFormat
from burnish.readers import Reader
from burnish.recipe import checked, read_recipe
from burnish.retrievers import Retriever
from burnish.spec import Spec
from burnish.steps.mine_recipe import named_retriever

ABSTAIN = "The passages do not tell."


class Ground(Spec):
    """Training rows of a generator that reads passages, and dev and test rows as it will meet them.

    dev, test: shares of the questions, where the source does not part them itself; whole groups are held out.
    """

    data: Reader
    retriever: Retriever = Field(default_factory=lambda: Retriever.read("bm25"))
    prompt: PromptFormat = PromptFormat(abstain=ABSTAIN)
    rows: Grounding = Grounding()
    dev: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    seed: int = 0

    @field_validator("prompt", mode="before")
    @classmethod
    def _abstains_unless_it_says_how(cls, value: Any) -> Any:
        return {"abstain": ABSTAIN, **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _has_a_sentence_to_abstain_with(self) -> "Ground":
        """Check that rows without an answer have something to teach.

        Raises:
            RecipeError: the prompt has no sentence for them.
        """
        if not self.prompt.abstain:
            raise RecipeError(
                f"prompt.abstain: dev and test rows whose passages hold no answer need something to say, and it is "
                f"empty; for example: {ABSTAIN}"
            )
        return self


def read_ground_recipe(source: Path, *, retriever: str | None = None, overrides: list[str] | None = None) -> Ground:
    """Read a recipe, or make one for a BEIR folder or a table in SQuAD's form, with the retriever that is named.

    Raises:
        RecipeError: it has faults, or comes with what it should say itself.
    """
    if source.suffix in (".yaml", ".yml"):
        if retriever:
            raise RecipeError(f"{source}: a recipe says itself which retriever to use; change it there")
        return read_recipe(source, Ground, overrides or [])
    kind = "beir" if source.is_dir() and is_beir(source) else "squad"
    value: dict[str, Any] = {"data": {"kind": kind, "path": str(source)}}
    if retriever:
        value["retriever"] = named_retriever(retriever)
    return checked(value, Ground, overrides or [], where=str(source))
