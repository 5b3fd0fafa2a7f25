from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from safedl.cache import MANIFEST, ArtifactCache, digest


def build(folder: Path) -> None:
    (folder / "value.txt").write_text("forty-two")


def never(_folder: Path) -> None:
    raise AssertionError("built a second time")


def test_second_asker_gets_what_the_first_built(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    first = cache.get("model", "ab12", build)
    second = cache.get("model", "ab12", never)
    assert (first.hit, second.hit) == (False, True)
    assert (second.path / "value.txt").read_text() == "forty-two"
    assert second.seconds == first.seconds


def test_altered_artifact_is_noticed_and_built_again(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    path = cache.get("model", "ab12", build).path
    (path / "value.txt").write_text("forty-tw0")  # same size, other content
    assert cache.damaged() == [path]
    assert not cache.get("model", "ab12", build).hit
    assert cache.damaged() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": {"gone.txt": {"size": 1, "sha256": ""}}}'])
def test_broken_manifest_counts_as_a_miss(tmp_path: Path, content: bytes) -> None:
    cache = ArtifactCache(tmp_path)
    (cache.get("model", "ab12", build).path / MANIFEST).write_bytes(content)
    assert not cache.get("model", "ab12", build).hit


@pytest.mark.parametrize("change", ["truncate", "grow", "remove", "another's", "lists nothing"])
def test_an_artifact_that_is_not_what_was_stored_is_built_again(tmp_path: Path, change: str) -> None:
    cache = ArtifactCache(tmp_path)
    path = cache.get("model", "ab12", build).path
    value, manifest = path / "value.txt", path / MANIFEST
    if change == "truncate":
        value.write_text("forty")
    elif change == "grow":
        value.write_text("forty-two and more")
    elif change == "remove":
        value.unlink()
    elif change == "another's":
        manifest.write_text(manifest.read_text().replace("ab12", "cd34"))
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "files": {}}))
    assert cache.damaged() == [path]
    again = cache.get("model", "ab12", build)
    assert not again.hit
    assert (again.path / "value.txt").read_text() == "forty-two"
    assert cache.damaged() == []


def test_what_a_killed_builder_left_is_cleared_away(tmp_path: Path) -> None:
    def leave(folder: Path) -> None:
        half = folder.with_name(folder.name.rpartition(".")[0] + ".00000000")
        half.mkdir()
        (half / "half.txt").write_text("half")
        build(folder)

    cache = ArtifactCache(tmp_path)
    cache.get("model", "ab12", leave)
    cache.get("model", "cd34", leave)
    assert len(list((tmp_path / "tmp").iterdir())) == 2
    shutil.rmtree(cache.folder("model", "ab12"))
    cache.get("model", "ab12", build)  # whoever builds it next clears up
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["model-cd34.00000000"]
    with cache._file_lock("model", "cd34"):
        assert cache.remove_leftovers() == 0  # its builder may be alive
    assert cache.remove_leftovers() == 1
    assert not list((tmp_path / "tmp").iterdir())


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get("model", "ab12", fail)
    assert cache.find("model", "ab12") is None
    assert not list((tmp_path / "tmp").iterdir())


def test_many_threads_build_once(tmp_path: Path) -> None:
    cache, built = ArtifactCache(tmp_path), []

    def slow(folder: Path) -> None:
        built.append(threading.get_ident())
        time.sleep(0.3)
        build(folder)

    threads = [threading.Thread(target=cache.get, args=("model", "ab12", slow)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_waiting_can_be_given_up(tmp_path: Path) -> None:
    cache, go_on = ArtifactCache(tmp_path), threading.Event()

    def slow(folder: Path) -> None:
        go_on.wait(60)
        build(folder)

    def give_up() -> None:
        raise KeyboardInterrupt

    builder = threading.Thread(target=cache.get, args=("model", "ab12", slow))
    builder.start()
    while not list((tmp_path / "tmp").glob("*")):
        time.sleep(0.01)
    with pytest.raises(KeyboardInterrupt):
        cache.get("model", "ab12", never, waiting=give_up)
    go_on.set()
    builder.join()


def test_remove_leaves_an_artifact_that_is_being_built(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    path = cache.get("model", "ab12", build).path
    with cache._file_lock("model", "ab12"):  # as whoever builds it anew holds it
        assert not cache.remove(path)
    assert path.is_dir()
    assert cache.remove(path)
    assert cache.find("model", "ab12") is None


def test_what_is_removed_while_it_is_looked_at_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArtifactCache(tmp_path)
    path, find = cache.get("model", "ab12", build).path, cache.find
    monkeypatch.setattr(cache, "find", lambda *words: cache.remove(path) and find(*words))
    assert cache.damaged() == []


def test_what_was_built_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    cache = ArtifactCache(tmp_path)
    monkeypatch.setattr("safedl.cache.os.fsync", lambda _file: there.append(cache.folder("model", "ab12").exists()))
    cache.get("model", "ab12", build)
    assert there == [False, False]  # the file and the manifest


def test_digest_depends_on_content_not_on_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
