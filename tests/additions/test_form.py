"""Additions in formats of our own, beside each other; what one of them does is tested with its method."""

from pathlib import Path

import pytest
import torch

import tiny
from burnish.errors import ModelError
from burnish.methods import adapters, prefix
from burnish.methods.adapters import Adapters
from burnish.methods.prefix import Prefix
from burnish.models.load import load_classifier


def test_a_network_has_one_addition(tmp_path: Path):
    found = load_classifier(str(tiny.tiny_bert(tmp_path / "bert")), ["a", "b"], dtype=torch.float32, seed=0)
    network = Adapters().apply(found.model, fresh=found.fresh)
    with pytest.raises(ModelError, match="method prefix: this BertForSequenceClassification has adapters already"):
        Prefix(length=3).apply(network, fresh=found.fresh)
    with pytest.raises(ModelError, match="this BertForSequenceClassification has no prefixes to save"):
        prefix.FORM.save(network, tmp_path)


def test_forms_have_files_of_their_own():
    forms = (adapters.FORM, prefix.FORM)
    assert len({name for form in forms for name in (form.config, form.weights)}) == 4
