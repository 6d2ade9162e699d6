from bench import paper
from bench.lib import queries
from engine.collection import Collection
from paired_collection import piece

PIECES = [piece(number) for number in range(4)]


def test_every_system_finds_whole_pieces_with_the_same_embeddings(collection: Collection) -> None:
    rows = list(paper.table_1(collection, PIECES, "default", 1))
    assert len(rows) == 2 * 8
    assert {(row["n"], row["R@1 count"], row["MRR"]) for row in rows} == {(4, 4, 1.0)}
    assert {row["system"] for row in rows} >= {"DTW (default)", "Shazam (default)", "Baseline, k = 25 (default)"}


def test_a_published_network_is_measured_by_the_published_systems_alone(collection: Collection) -> None:
    systems = {row["system"] for row in paper.table_1(collection, PIECES, "attention", 1)}
    assert systems == {"Baseline, k = 1+Att", "Baseline, k = 25+Att", "DTW+Att", "Shazam+Att"}


def test_fragments_are_as_many_and_as_long_as_asked_for_and_the_same_each_time(collection: Collection) -> None:
    wholes = [query for query in queries.whole(collection, PIECES) if query.direction == "A2S"]
    made = paper.fragments(collection, wholes, 20, 30)
    assert {(query.form, len(query.sequence)) for query in made} == {("20 s", 32)}  # 4.2 s, and one more each 0.5 s
    assert len({query.piece for query in made}) > 1
    again = paper.fragments(collection, wholes, 20, 30)
    assert all((a.sequence.embeddings == b.sequence.embeddings).all() for a, b in zip(made, again, strict=True))


def test_each_length_has_a_row_in_which_each_system_has_its_column(collection: Collection) -> None:
    rows = list(paper.table_2(collection, PIECES, "default", 2, 1))
    table = paper.wide(rows)
    assert [(row["direction"], row["length"]) for row in table][::8] == [("A2S", "10 s"), ("S2A", "1 systems")]
    assert len(table) == 16
    assert {len(row) for row in table} == {2 + 5}


def test_the_papers_own_figures_stand_for_every_system_direction_and_length() -> None:
    assert len(paper.published_table_1()) == 12
    assert len(paper.wide(paper.published_table_2())) == 16
