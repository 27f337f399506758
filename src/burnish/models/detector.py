"""What a trained detector of unsupported answers brings along: its label, and the threshold calibrated for it."""

from pathlib import Path

from pydantic import Field, ValidationError

from burnish.errors import ModelError
from burnish.run import read_json, write_json
from burnish.spec import Spec, faults

FILE = "grounding.json"  # beside the weights, so that it moves with them


class Calibrated(Spec):
    """How a classifier's probabilities become verdicts on claims."""

    label: str  # of `labels`: the passage bears the claim
    labels: tuple[str, ...]  # in the order of the head's outputs
    threshold: float = Field(ge=0, le=1)  # of the label's probability
    max_tokens: int = Field(ge=4)  # of passage and claim together, as it was trained to read them
    rows: int = Field(ge=1)  # that the threshold was calibrated on
    balanced_accuracy: float = Field(ge=0, le=1)  # on those rows: higher than on others


def read_calibrated(folder: Path) -> Calibrated | None:
    """Return what stands beside a model, None where nothing does.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Calibrated.model_validate(read_json(path))
    except ValidationError as error:
        raise ModelError("\n".join(f"{path}: {fault}" for fault in faults(error, Calibrated))) from error


def write_calibrated(found: Calibrated, folder: Path) -> None:
    """Write it beside the model."""
    write_json(folder / FILE, found.model_dump(mode="json"))
