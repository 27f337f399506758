"""Two pieces of one document."""

from statistics import mean

from burnish.prepare.crops import Crops, crop_pairs
from burnish.records import Chunk

LONG = [Chunk(id=f"d{n}", title="Heading", text=" ".join(f"w{n}_{place}" for place in range(199))) for n in range(60)]


def test_pieces_stand_in_their_document_in_order_and_have_the_share_asked_for() -> None:
    pairs, short = crop_pairs(LONG, Crops(), seed=0)
    assert short == 0
    assert [pair.id for pair in pairs] == [f"{chunk.id}#0" for chunk in LONG]
    sizes = []
    for pair, chunk in zip(pairs, LONG, strict=True):
        order = {word: place for place, word in enumerate(f"{chunk.title} {chunk.text}".split())}
        for piece in (pair.query, *pair.positives):
            places = [order[word] for word in piece.split()]
            assert places == sorted(set(places))
            sizes.append((max(places) - min(places) + 1) / 200)
    assert min(sizes) > 0.02
    assert max(sizes) <= 0.5
    assert 0.22 < mean(sizes) < 0.32  # uniform between 5 and 50 %, and a little off at the ends


def test_words_are_left_out_by_chance() -> None:
    whole, _ = crop_pairs(LONG, Crops(least=0.5, most=0.5, per_passage=4, deleted=0.0), seed=1)
    assert {len(pair.query.split()) for pair in whole} == {100}
    thinned, _ = crop_pairs(LONG, Crops(least=0.5, most=0.5, per_passage=4, deleted=0.1), seed=1)
    assert 0.88 < mean(len(pair.query.split()) for pair in thinned) / 100 < 0.92


def test_what_is_drawn_depends_on_the_seed_and_the_passage_alone() -> None:
    once, _ = crop_pairs(LONG, Crops(per_passage=2), seed=0)
    again, _ = crop_pairs(LONG[::-1], Crops(per_passage=2), seed=0)
    assert sorted(once, key=lambda pair: pair.id) == sorted(again, key=lambda pair: pair.id)
    assert crop_pairs(LONG, Crops(), seed=1) != crop_pairs(LONG, Crops(), seed=0)
    assert all(pair.query != pair.positives[0] for pair in once)


def test_short_passages_are_counted() -> None:
    few = [Chunk(id="short", text="one two three"), Chunk(id="enough", text=" ".join("abcdefgh"))]
    pairs, short = crop_pairs(few, Crops(), seed=0)
    assert [pair.id for pair in pairs] == ["enough#0"]
    assert short == 1
    assert len(pairs[0].query.split()) <= 4
