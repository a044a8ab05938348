"""Maintenance of bases with live writes: compacting, verifying, snapshots and restoring."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reimagen_common.errors import InvalidArgument, NotFound, ReimagenError, Unavailable
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.cli import app
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.folder_lock import Holder, locked
from reimagen_retriever.knowledge_base.manifest import Manifest, read_manifest
from reimagen_retriever.knowledge_base.pair import SourcePair
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.live.writer import LiveWriter, Put, Remove
from reimagen_retriever.maintenance.compact import compact
from reimagen_retriever.maintenance.snapshot import restore, snapshot
from reimagen_retriever.maintenance.verify import verify
from reimagen_retriever.search import Search
from reimagen_retriever.service import RetrievalService

MakeBase = Callable[..., Path]
MakeFolder = Callable[..., Path]
MakeImage = Callable[..., bytes]
Content = dict[str, tuple[str, bytes]]


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def content(folder: Path) -> Content:
    base = KnowledgeBase.open(folder)
    pairs = [base.index.pair(document) for document in base.index.in_order()]
    found = {pair.id: (pair.caption, base.images.read(pair)) for pair in pairs}
    assert len(found) == base.manifest.pairs
    base.close()
    return found


def answers(folder: Path) -> list[object]:
    base = KnowledgeBase.open(folder)
    found: list[object] = []
    for query in ("a kea", "a red fox in the snow", "kea fox hotel", "unicorn"):
        found += [(hit.pair.id, hit.pair.caption, hit.score) for hit in base.index.search(query, 16, 0, "any")]
    base.close()
    return found


def change(folder: Path, *pairs: tuple[str, str, bytes], removed: tuple[str, ...] = ()) -> None:
    with LiveWriter(folder, Holder(work="test")) as writer:
        for identifier, text, image in pairs:
            writer.apply([Put(*checked_pair(SourcePair("here", identifier, text, image, license="MIT")))])
        writer.apply([Remove(identifier) for identifier in removed])


@pytest.fixture
def changed(base: MakeBase, make_image: MakeImage) -> Path:
    """Return a base that was built and then changed by adds, updates and removals."""
    folder = base({"a": "a fox", "b": "a red fox", "c": "a hotel"})
    images = [make_image(color, size=(40, 30)) for color in ("teal", "navy", "olive")]
    change(folder, ("k", "a kea", images[0]), ("b", "a kea in the snow", images[1]), removed=("a",))
    change(folder, ("l", "a red fox", images[2]), ("k", "another kea", images[0]))
    return folder


def test_a_compacted_base_equals_a_build_of_its_pairs(changed: Path, tmp_path: Path) -> None:
    before, revision = content(changed), KnowledgeBase.open(changed).manifest.revision
    names = {path.name for path in changed.iterdir()}
    manifest = compact(changed)
    assert content(changed) == before
    assert set(before) == {"b", "c", "k", "l"}
    assert manifest == read_manifest(changed)
    assert (manifest.pairs, manifest.licenses) == (4, {"MIT": 3, "": 1})
    assert [(shard.pairs, shard.live) for shard in manifest.shards] == [(4, False)]
    assert manifest.revision != revision
    assert {path.name for path in changed.iterdir()} == names - {path for path in names if path.startswith("data-")} | {
        manifest.folder
    }
    fresh = build(open_source(changed / manifest.shards_folder), tmp_path / "fresh").manifest
    assert fresh.revision == manifest.revision
    assert answers(changed) == answers(tmp_path / "fresh")
    change(changed, ("m", "a macaw", before["k"][1]))
    assert content(changed) == before | {"m": ("a macaw", before["k"][1])}


def test_an_empty_base_can_be_compacted_and_added_to(base: MakeBase, make_image: MakeImage) -> None:
    folder = base({"a": "a fox"})
    change(folder, removed=("a",))
    assert compact(folder).pairs == 0
    assert answers(folder) == []
    change(folder, ("k", "a kea", make_image()))
    assert verify(folder)[1] == []
    assert set(content(folder)) == {"k"}


def test_searches_go_on_while_a_base_is_compacted_and_restored(changed: Path, tmp_path: Path) -> None:
    serving = RetrievalService(changed, AnswerCache(None, 1), "entity")
    serving.open()
    snapshot(changed, tmp_path / "kept")
    steps: tuple[Callable[[], Manifest], ...] = (
        lambda: compact(changed),
        lambda: restore(tmp_path / "kept", changed),
    )
    for step in steps:
        before = serving.search(Search("a kea"))
        manifest = step()
        after = serving.search(Search("a kea"))
        assert after.revision != before.revision
        assert after.revision == KnowledgeBase.open(changed).manifest.revision
        assert manifest.pairs == 4
        assert [(found.pair.id, found.image) for found in after.neighbors] == [
            (found.pair.id, found.image) for found in before.neighbors
        ]
    serving.close()


def test_a_damaged_base_is_not_compacted_or_copied(changed: Path) -> None:
    base = KnowledgeBase.open(changed)
    pair = base.index.get("k")
    assert pair
    base.close()
    before = read_manifest(changed)
    shard = changed / before.shards_folder / pair.shard
    with shard.open("r+b") as file:
        file.seek(pair.offset + pair.length // 2)
        file.write(b"damage")
    with pytest.raises(ReimagenError, match="the image of k is not what was added"):
        compact(changed)
    assert read_manifest(changed) == before
    assert [path.name for path in changed.glob("data-*")] == [before.folder]


def test_compacting_waits_for_the_writer(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reimagen_retriever.maintenance.compact.LOCK_WAIT_SECONDS", 0)
    with (
        locked(changed, Holder(work="the service", address="127.0.0.1:9")),
        pytest.raises(Unavailable, match="written to by the service"),
    ):
        compact(changed)


def test_an_intact_base_is_verified(changed: Path) -> None:
    manifest, damages = verify(changed)
    assert damages == []
    assert manifest.pairs == 4
    result = run("verify", changed)
    assert result.exit_code == 0
    assert result.stdout == f"{changed}: 4 pairs of revision {manifest.revision}, all is as it was written\n"


def test_damage_is_reported_with_its_location(changed: Path) -> None:
    base = KnowledgeBase.open(changed)
    pairs = {identifier: base.index.get(identifier) for identifier in content(changed)}
    base.close()
    k, l_, c = pairs["k"], pairs["l"], pairs["c"]
    assert k
    assert l_
    assert c
    shards = changed / base.manifest.shards_folder
    with (shards / k.shard).open("r+b") as file:
        file.seek(k.offset + k.length - 3)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    result = run("verify", changed)
    assert result.exit_code == 2
    assert result.stdout.splitlines()[0] == f"{k.shard}, k: its image is not what was added"
    assert "1 damages" in result.stdout
    with (shards / c.shard).open("r+b") as file:  # A header of the built shard.
        file.seek(0)
        file.write(b"x" * 512)
    reported = verify(changed)[1]
    assert [damage.location for damage in reported] == [c.shard, f"{k.shard}, k"]
    assert "is not a complete tar file" in reported[0].what


def test_counts_unlike_those_of_the_commit_are_damage(changed: Path) -> None:
    base = KnowledgeBase.open(changed)
    (k, c), notes = (base.index.get("k"), base.index.get("c")), base.index.notes
    base.close()
    assert k
    assert c
    with IndexWriter(changed / base.built.lucene_folder) as writer:
        writer.remove("c")
        writer.add(k)
        writer.commit(notes)
    whats = {damage.what for damage in verify(changed)[1]}
    assert whats == {"1 ids occur more than once", "the counts of licenses are not those of the last commit"}
    with IndexWriter(changed / base.built.lucene_folder) as writer:
        writer.remove("k")
        writer.commit(notes)
    result = run("verify", changed)
    assert result.exit_code == 2
    assert re.search(
        r"error: .* is damaged, build it again: the index holds 2 pairs, its last commit says 4", result.stderr
    )


def test_a_snapshot_does_not_change_and_can_be_restored(changed: Path, tmp_path: Path, make_image: MakeImage) -> None:
    before, kept = content(changed), tmp_path / "kept"
    manifest = snapshot(changed, kept)
    assert manifest == KnowledgeBase.open(kept).manifest
    assert manifest.revision == KnowledgeBase.open(changed).manifest.revision
    shards = [next(folder.glob("data-*/shards/00000.tar")) for folder in (changed, kept)]
    assert shards[0].samefile(shards[1])
    change(changed, ("n", "a new kea", make_image()), ("c", "a new hotel", make_image()), removed=("k",))
    compact(changed)
    assert content(kept) == before
    assert verify(kept)[1] == []
    # It is a separate base: writes to it are not visible elsewhere.
    change(kept, ("o", "an owl", make_image()))
    assert set(content(changed)) == {"b", "c", "l", "n"}
    change(kept, removed=("o",))
    restored = restore(kept, changed)
    assert restored.pairs == 4
    assert content(changed) == before
    assert verify(changed)[1] == []
    restore(kept, tmp_path / "elsewhere")
    assert content(tmp_path / "elsewhere") == before


def test_a_snapshot_is_taken_while_pairs_are_added(changed: Path, tmp_path: Path, make_image: MakeImage) -> None:
    image = make_image()
    with LiveWriter(changed, Holder(work="the service")) as writer:
        for number in range(12):
            writer.apply([Put(*checked_pair(SourcePair("here", f"{number}", "a macaw", image)))])
            if number % 4 == 0:
                kept = tmp_path / f"kept {number}"
                snapshot(changed, kept)
                assert verify(kept)[1] == []
                assert set(content(kept)) == {"b", "c", "k", "l", *map(str, range(number + 1))}


def test_invalid_destinations_of_a_snapshot_are_refused(changed: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    for destination in (tmp_path / "other", tmp_path / "other" / "file", changed):
        with pytest.raises(InvalidArgument, match=r"DEST: .* is not a new or empty folder"):
            snapshot(changed, destination)
    with pytest.raises(InvalidArgument, match=r"KB_DIR: .* has other files"):
        restore(changed, tmp_path / "other")
    with pytest.raises(NotFound):
        snapshot(tmp_path / "nowhere", tmp_path / "new")
    with pytest.raises(NotFound):
        restore(tmp_path / "other", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_maintenance_commands_work(folder: MakeFolder, tmp_path: Path) -> None:
    kb = tmp_path / "kb"
    source = folder({"a": "a fox", "b": "a kea", "c": ""})
    assert run("build", source, kb).exit_code == 0
    (source / "b.txt").write_text("another kea")
    (source / "c.txt").write_text("a hotel")
    (source / "d.png").write_bytes(b"broken")
    (source / "d.txt").write_text("a drum")
    added = run("add", kb, source)
    assert added.exit_code == 0
    assert f"{kb}: 1 added, 1 updated, 1 unchanged, 1 left out, revision " in added.stdout
    assert "left out d.png: broken image (not PNG, JPEG, WebP, GIF, " in added.stderr
    removed = run("remove", kb, "a", "nobody")
    assert f"{kb}: 1 removed, revision " in removed.stdout
    assert removed.stderr == "no pair has the id 'nobody'\n"
    assert run("describe", kb).stdout.startswith(f"{kb}: 2 pairs, ")
    assert "another kea" in run("search", kb, "a kea").stdout
    assert run("snapshot", kb, tmp_path / "kept").stdout.startswith(f"{tmp_path}/kept: 2 pairs, revision ")
    compacted = run("compact", kb)
    assert compacted.stdout.startswith(f"{kb}: 2 pairs, ")
    assert "MB before" in compacted.stdout
    assert run("restore", tmp_path / "kept", kb).stdout.startswith(f"{kb}: 2 pairs, revision ")
    assert run("verify", kb).exit_code == 0
    for wrong in (("add", tmp_path / "nowhere", source), ("remove", tmp_path / "nowhere", "a"), ("verify", source)):
        assert run(*wrong).exit_code == 2
    assert run("remove", kb, "").exit_code == 2
    unreachable = run("remove", kb, "a", "--address", "127.0.0.1:1")
    assert unreachable.exit_code == 1
    assert unreachable.stderr.startswith("error: ")
