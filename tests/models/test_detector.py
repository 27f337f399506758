"""What a detector brings along: marks on what is new in a claim."""

from burnish.models.detector import marked


def test_words_that_the_passage_lacks_are_marked_by_their_stem() -> None:
    assert (
        marked("Parcels take three days.", "A parcel took 3 days, free!", "*") == "* A parcel * took * 3 days, * free!"
    )


def test_nothing_else_is_changed() -> None:
    claim = "  Parcels\n take , three  -- days. "
    assert marked("parcels take three days", claim, "*") == claim
    assert marked("fish", claim, "") == claim
    assert marked("", "one two-three", "[new]") == "[new] one [new] two-three"
