"""Each method on each task and kind of network learns eight rows and is saved whole, or is refused with a sentence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.errors import BurnishError
from burnish.models.adapted import OURS, PEFT
from burnish.models.encode import Encoder
from burnish.models.joint import Joint
from burnish.models.late import LateEncoder
from burnish.models.maxsim import maxsim
from burnish.models.quiet import quiet
from burnish.models.safety import read_settings
from burnish.tasks import Built
from burnish.train.optimizer import is_fresh
from every import cells
from every.cells import CELLS, NEAR_ZERO, REFUSED, Cell, Trained, apply_cell, assert_same

Train = Callable[[Cell], Trained]

IDS = torch.tensor([[5, 6, 7, 8, 9, 1], [7, 5, 11, 1, 0, 0]])  # T5's classifier wants one end (1) in each row
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
WRITTEN = torch.tensor([[0, 6, 9, 12], [0, 30, 9, 1]])
UNSEEN = ("key.bias", "k_proj.bias", "qa_outputs.bias")  # a softmax over keys, or places, sees no constant

REFUSED_CELLS = [cell for cell in CELLS if cell.entry(REFUSED)]
TRAINED_CELLS = [cell for cell in CELLS if not cell.entry(REFUSED)]
every_refused = pytest.mark.parametrize("cell", REFUSED_CELLS, ids=lambda cell: cell.name)
LEARNED_CELLS = [cell for cell in TRAINED_CELLS if not cell.entry(cells.LEARNS_SLOWLY)]
every_trained = pytest.mark.parametrize("cell", TRAINED_CELLS, ids=lambda cell: cell.name)
every_learned = pytest.mark.parametrize("cell", LEARNED_CELLS, ids=lambda cell: cell.name)


@every_refused
def test_what_does_not_fit_is_refused_with_a_sentence(cell: Cell, backbones: dict[str, Path]) -> None:
    with pytest.raises(BurnishError, match=REFUSED[str(cell.entry(REFUSED))]):
        apply_cell(cell, backbones[cell.base])


@every_learned
def test_eight_rows_are_learned(cell: Cell, trained: Train) -> None:
    losses = trained(cell).losses
    assert mean(losses[-4:]) < losses[0]
    if cell.method in cells.METHODS:  # one that is new has the rate it ships, with which few steps do not get far
        assert mean(losses[-4:]) < NEAR_ZERO


@every_learned
def test_what_is_learned_is_predicted(cell: Cell, trained: Train) -> None:
    found = trained(cell)
    for metric in found.task.metrics:
        if metric.higher_is_better and cell.method in cells.METHODS:
            value = metric.value(found.predictions[metric.reads], found.task.references(found.rows))
            assert value > 0.95, metric.label


@pytest.mark.parametrize("cell", [cell for cell in TRAINED_CELLS if cell.method != "full"], ids=lambda cell: cell.name)
def test_a_method_trains_fewer_weights_than_full(cell: Cell, trained: Train) -> None:
    found = trained(cell)
    assert 0 < found.trainable < found.parameters


@every_trained
def test_new_parts_train_with_every_method(cell: Cell, trained: Train) -> None:
    found = trained(cell)
    new = {name: w for name, w in found.model.named_parameters() if is_fresh(name, found.built.fresh)}
    still = [name for name, w in new.items() if not w.requires_grad and "original_module" not in name]  # PEFT's copy
    assert still == []
    assert bool(found.built.fresh) == any(weight.requires_grad for weight in new.values())


@every_trained
def test_every_trainable_weight_gets_a_gradient_and_no_frozen_one(cell: Cell, trained: Train) -> None:
    found = trained(cell)
    assert [name for name in found.idle if not name.endswith(UNSEEN)] == []
    assert found.stray == []


@every_trained
def test_micro_batches_do_not_change_loss_and_gradient(cell: Cell, trained: Train) -> None:
    found = trained(cell)
    assert set(found.sums) == ({1, 2, 4} if found.task.divisible else {4})
    loss, units, gradient = found.sums[4]
    assert units > 0
    for part, count, other in found.sums.values():
        assert count == units
        nothing = 5e-6 if cell.task == "reinforce" else 1e-6  # the gains of a group add up to it, each rounded
        assert part == pytest.approx(loss, rel=1e-5, abs=nothing)
        torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())


@every_trained
def test_a_saved_model_is_built_again_with_equal_predictions(cell: Cell, trained: Train) -> None:
    found = trained(cell)
    built = found.task.build(str(found.folder), seed=1)  # with which a head that was not saved would be another
    for reads, ours in found.predictions.items():
        again = found.task.predictions(built.model.eval(), built, found.rows, reads=reads, progress=lambda *_: None)
        assert_same(again, ours)


@every_trained
def test_a_saved_model_gives_equal_outputs_without_us(cell: Cell, trained: Train) -> None:
    found = trained(cell)
    encoder = found.built.model
    if isinstance(encoder, Joint):
        assert_same_halves(encoder, found)
    elif isinstance(encoder, LateEncoder):
        assert_same_scores(encoder, found.folder)
    elif isinstance(encoder, Encoder):
        assert_same_vectors(encoder, found.folder)
    elif any((found.folder / form.config).is_file() for form in OURS):
        assert cell.method in ("adapters", "prefix")  # formats of our own, which no other library reads
    else:
        theirs, ours = outputs(loaded_outside(found)), outputs(found.model)
        config = found.built.model.config.to_dict()  # type: ignore[operator]
        expected = ours * config.get("target_std", 1.0) + config.get("target_mean", 0.0)  # a regression's unit
        torch.testing.assert_close(theirs, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_every_entry_of_the_tables_is_needed() -> None:
    for table in (REFUSED, cells.MORE_STEPS, cells.RATES, cells.LEARNS_SLOWLY):
        assert {*table} - {cell.entry(table) for cell in CELLS} == set()
    assert {cell.method for cell in CELLS} >= set(cells.METHODS)
    assert {cell.task for cell in CELLS} >= set(cells.TASKS)


def assert_same_halves(joint: Joint, found: Trained) -> None:
    """Check both halves: the retriever in sentence-transformers, the generator as any other network."""
    with quiet():
        loaded = SentenceTransformer(str(found.folder / "retriever"), device="cpu")
    theirs = loaded.encode_query([*cells.TEXTS], convert_to_tensor=True, show_progress_bar=False)
    torch.testing.assert_close(joint.retriever.queries.encode(cells.TEXTS, max_tokens=16)[0], theirs, atol=1e-5, rtol=0)
    folder = found.folder / "generator"
    if any((folder / form.config).is_file() for form in OURS):
        assert found.method.generator.kind in ("adapters", "prefix")  # type: ignore[attr-defined]
    else:
        network: Any = joint.generator
        plain = network.get_base_model() if isinstance(network, PeftModel) else network
        outside = loaded_outside(replace(found, folder=folder, built=Built(plain, None)))
        torch.testing.assert_close(outputs(outside), outputs(joint.generator), rtol=1e-4, atol=1e-4)


def assert_same_vectors(encoder: Encoder, folder: Path) -> None:
    """Check that sentence-transformers gives the vectors that the encoder gives."""
    with quiet():
        loaded = SentenceTransformer(str(folder), device="cpu")
    theirs = loaded.encode([*cells.TEXTS], convert_to_tensor=True, show_progress_bar=False)
    torch.testing.assert_close(encoder.encode(cells.TEXTS, max_tokens=16)[0], theirs, atol=1e-5, rtol=0)


def assert_same_scores(encoder: LateEncoder, folder: Path) -> None:
    """Check that sentence-transformers gives the scores that the late-interaction model gives."""
    with quiet():
        loaded = MultiVectorEncoder(str(folder), device="cpu")
    theirs = loaded.similarity(loaded.encode_query([*cells.TEXTS]), loaded.encode_document([*cells.TEXTS]))
    ours = maxsim(encoder.encode_queries(cells.TEXTS), encoder.encode_passages(cells.TEXTS))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def loaded_outside(found: Trained) -> nn.Module:
    """Return the saved model as transformers, or PEFT on the base, load it."""
    with quiet():
        if not (found.folder / PEFT).is_file():
            [architecture] = read_settings(found.folder / "config.json")["architectures"]
            plain: nn.Module = getattr(transformers, architecture).from_pretrained(found.folder)
            return plain.eval()
        network: Any = found.built.model
        assert isinstance(network, PreTrainedModel)
        base = type(network).from_pretrained(found.base, num_labels=network.config.num_labels)
        return PeftModel.from_pretrained(base, str(found.folder)).eval()


@torch.no_grad()
def outputs(model: Any) -> Tensor:
    """Return the first thing that a network gives for two rows, one of them padded; of padding nothing is asked."""
    network = model.get_base_model() if isinstance(model, PeftModel) else model
    written = {"decoder_input_ids": WRITTEN} if type(network).__name__.endswith("ConditionalGeneration") else {}
    with quiet():
        found: Tensor = model(input_ids=IDS, attention_mask=MASK, **written)[0]
    return found[MASK.bool()] if not written and found.shape[:2] == MASK.shape else found
