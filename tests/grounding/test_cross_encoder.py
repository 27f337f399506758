"""Grounding by a network that reads passage and claim together."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import tiny
from burnish.claims import Case, Grounded
from burnish.errors import ModelError
from burnish.grounding import Grounder
from burnish.models.detector import FILE, Calibrated, read_calibrated, write_calibrated
from burnish.models.load import load_classifier, load_regressor
from burnish.models.quiet import quiet

NLI = ("contradiction", "entailment", "neutral")
PASSAGE = "the cat is red and the dog is green"
LONG = " ".join(f"w{number % 20} the list is {word}" for number, word in enumerate(["red", "green", "blue"] * 30))


def classifier(folder: Path, labels: Sequence[str]) -> Path:
    base = tiny.tiny_bert(folder / "base")
    found = load_classifier(str(base), labels, dtype=torch.float32, seed=1)
    with quiet(), torch.no_grad():
        for weight in found.model.classifier.parameters():
            weight.normal_(std=1.0, generator=torch.Generator().manual_seed(12))  # scores that differ
        found.model.save_pretrained(folder / "model")
        found.tokenizer.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("nli"), NLI)


def judged(model: Path, cases: Sequence[Case], **settings: object) -> list[Grounded]:
    check = Grounder.read({"kind": "cross_encoder", "model": str(model), **settings}).load()
    found = [one for one in check(cases, progress=lambda *_: None) if isinstance(one, Grounded)]
    assert len(found) == len(cases)
    return found


def shares(model: Path, first: str, second: str) -> list[float]:
    """Return what transformers itself makes of a pair."""
    with quiet(), torch.no_grad():
        network = AutoModelForSequenceClassification.from_pretrained(model).eval()
        inputs = AutoTokenizer.from_pretrained(model)(first, second, return_tensors="pt")
        found: list[float] = network(**inputs).logits[0].softmax(-1).tolist()
    return found


def test_support_is_the_probability_of_entailment_with_the_passage_first(nli: Path) -> None:
    [found] = judged(nli, [Case((PASSAGE,), "the cat is red. The dog is blue.")])
    for claim in found.claims:
        assert claim.support == pytest.approx(shares(nli, PASSAGE, claim.text)[1], abs=1e-5)
    assert shares(nli, PASSAGE, "the cat is red.")[1] != pytest.approx(shares(nli, "the cat is red.", PASSAGE)[1])


def test_batches_change_nothing(nli: Path) -> None:
    cases = [Case((PASSAGE, text), claim) for text in ("a bird", LONG) for claim in ("the fish", "one two three four")]
    together = judged(nli, cases)
    for case, one in zip(cases, together, strict=True):
        [alone] = judged(nli, [case])
        assert one.score == pytest.approx(alone.score, abs=1e-5)
        assert one.claims[0].passage == alone.claims[0].passage


def test_a_long_passage_is_read_in_windows_to_its_end_and_the_best_counts(nli: Path) -> None:
    claim = "the list is blue"
    room = 128 - 4 - 3 - 2  # the model's, less the claim, special tokens, and two to spare
    tokens = LONG.split()
    assert len(tokens) > 3 * room
    firsts = range(0, len(tokens) - room + room // 2, room // 2)
    windows = [" ".join(tokens[first : first + room]) for first in firsts]
    assert windows[-1].endswith(tokens[-1])
    [found] = judged(nli, [Case((LONG,), claim)])
    best = max(shares(nli, window, claim)[1] for window in windows)
    assert found.score == pytest.approx(best, abs=1e-5)


def test_a_passage_is_read_whole_and_sentence_by_sentence_and_the_best_counts(nli: Path) -> None:
    sentences = ["The cat is red.", "The dog is green.", "A bird is blue."]
    passage, claims = " ".join(sentences), ["the cat is red", "the fish", "the bird is green"]
    readings = {claim: [shares(nli, text, claim)[1] for text in (passage, *sentences)] for claim in claims}
    assert {found.index(max(found)) for found in readings.values()} > {0}  # the whole, and for others a sentence
    for claim, found in readings.items():
        assert judged(nli, [Case((passage,), claim)])[0].score == pytest.approx(max(found), abs=1e-5)


def test_of_a_claim_too_long_to_leave_room_every_part_must_be_borne(nli: Path) -> None:
    tokens = LONG.split()[:100]
    parts = [" ".join(tokens[:64]), " ".join(tokens[64:])]
    [found] = judged(nli, [Case(("a bird",), " ".join(tokens))])
    assert found.score == pytest.approx(min(shares(nli, "a bird", part)[1] for part in parts), abs=1e-5)


def test_one_score_goes_through_a_sigmoid(tmp_path: Path) -> None:
    found = load_regressor(str(tiny.tiny_bert(tmp_path / "base")), dtype=torch.float32, seed=0)
    with quiet(), torch.no_grad():
        found.model.classifier.weight.normal_()
        found.model.save_pretrained(tmp_path / "one")
        found.tokenizer.save_pretrained(tmp_path / "one")
        inputs = found.tokenizer(PASSAGE, "the cat", return_tensors="pt")
        expected = found.model.eval()(**inputs).logits.sigmoid().item()
    assert judged(tmp_path / "one", [Case((PASSAGE,), "the cat")])[0].score == pytest.approx(expected, abs=1e-5)


def test_labels_without_a_known_name_are_refused_and_may_be_named(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("LABEL_0", "LABEL_1"))
    with pytest.raises(ModelError, match=r"exactly one label is needed that says a passage bears .*found 'LABEL_0'"):
        judged(model, [])
    with pytest.raises(ModelError, match=r"exactly one label is needed called 'LABEL_2', and 0 are"):
        judged(model, [], label="LABEL_2")
    [found] = judged(model, [Case((PASSAGE,), "the cat")], label="label_1")
    assert found.score == pytest.approx(shares(model, PASSAGE, "the cat")[1], abs=1e-5)


def test_an_untrained_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"its head is untrained .*train a detector|exactly one label is needed"):
        judged(tiny.tiny_bert(tmp_path / "base"), [])


def test_a_detector_brings_its_label_its_threshold_and_its_length(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("borne", "made up"))
    case = Case((PASSAGE,), "the cat")
    support = shares(model, PASSAGE, "the cat")[0]
    for threshold, supported in ((support * 0.9, True), ((support + 1) / 2, False)):
        found = Calibrated(
            label="borne",
            labels=("borne", "made up"),
            threshold=threshold,
            max_tokens=32,
            rows=9,
            balanced_accuracy=0.8,
        )
        write_calibrated(found, model)
        assert read_calibrated(model) == found
        [told] = judged(model, [case])
        assert told.claims[0].support == pytest.approx(support, abs=1e-5)
        assert told.faithful is supported
        assert judged(model, [case], threshold=0.0)[0].faithful
    write_calibrated(found.model_copy(update={"by_words": 0.25}), model)
    [told] = judged(model, [Case((PASSAGE,), "the cat is yellow")])  # of two content words one is in the passage
    alone = shares(model, PASSAGE, "the cat is yellow")[0]
    assert told.claims[0].support == pytest.approx(0.75 * alone + 0.25 * 0.5, abs=1e-5)
    (model / FILE).write_text('{"label": "borne"}')
    with pytest.raises(ModelError, match=r"grounding\.json: threshold: this key is needed"):
        judged(model, [])
