"""The list of works that a librarian edits, and what the collection makes of it."""

from pathlib import Path

import pytest

from collection_samples import document, fill
from engine.collection import Collection, open_collection, shard
from engine.errors import DocumentMissingError
from engine.search.linking import Member, ProposedWork
from indexer import linking
from indexer.errors import LinkListError


@pytest.mark.parametrize("shards", [1, 2])
def test_a_proposed_list_that_is_confirmed_gives_documents_their_works(tmp_path: Path, shards: int) -> None:
    fill(tmp_path / "plain", "a", "b", "other")
    if shards == 1:
        (tmp_path / "plain").rename(tmp_path / "c")
    else:
        shard(tmp_path / "plain", tmp_path / "c", shards)
    members = tuple(Member(document=document(id), confidence=0.912, linked=other) for id, other in ("ab", "ba"))
    text = linking.as_csv([ProposedWork(name="Sonata, in C", members=members)])
    assert text.splitlines()[1] == '"Sonata, in C",a,score,Title of a,,0.912,b,'
    (tmp_path / "works.csv").write_text(text)
    works = linking.confirmed(tmp_path / "works.csv")
    assert linking.apply(tmp_path / "c", works) == 2
    with open_collection(tmp_path / "c") as collection:
        assert [(one.id, one.work) for one in sorted(collection.documents, key=lambda one: one.id)] == [
            ("a", "Sonata, in C"),
            ("b", "Sonata, in C"),
            ("other", ""),
        ]
        generation = collection.generation
    assert linking.apply(tmp_path / "c", works) == 0
    with open_collection(tmp_path / "c") as collection:
        assert collection.generation == generation


def test_a_list_with_a_document_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "c", "a")
    with pytest.raises(DocumentMissingError, match="no document 'b'; no document was changed"):
        linking.apply(tmp_path / "c", {"a": "K. 1", "b": "K. 1"})
    with Collection.open(tmp_path / "c") as collection:
        assert collection.document("a").work == ""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("id,title\na,b\n", "expected the columns work and id"),
        ("work,id\nK. 1,\n", "line 2: expected an id"),
        ("work,id\nK. 1,a\nK. 2,a\n", "line 3: a has another work in a line before"),
        (b"work,id\nK\xff,a\n", "cannot be read as CSV in UTF-8"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused_by_its_line(text: str | bytes, cause: str, tmp_path: Path) -> None:
    file = tmp_path / "works.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LinkListError, match=cause):
        linking.confirmed(file)


def test_a_list_of_a_spreadsheet_may_have_a_mark_at_its_start_other_columns_and_lines_without_a_work(
    tmp_path: Path,
) -> None:
    file = tmp_path / "works.csv"
    file.write_bytes(b"\xef\xbb\xbfid,note,work\r\na,x, K. 1 \r\nb,,\r\n")
    assert linking.confirmed(file) == {"a": "K. 1"}
