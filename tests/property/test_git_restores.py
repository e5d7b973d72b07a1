"""Any committed tree comes back over any other: as a whole, in part, and with the same digests."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from connectors.connector import AssetVersion, RestoreStep, Settings
from connectors.git import GitConnector
from tests.support.repositories import commit_all, git, make_repository

names = st.sampled_from(["a", "b", "-x", "d", "ü", "two\nlines"])
leaves = st.tuples(st.sampled_from([b"", b"1\n", b"2\r\n", b"\0\xff"]), st.booleans())
trees = st.recursive(
    st.dictionaries(names, leaves, max_size=4),
    lambda inner: st.dictionaries(names, leaves | inner, max_size=4),
    max_leaves=8,
)


def lay_out(folder: Path, tree: dict[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    for name, child in tree.items():
        if isinstance(child, dict):
            lay_out(folder / name, child)
        else:
            content, executable = child  # type: ignore[misc]
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o755 if executable else 0o644)


def commit_tree(root: Path, tree: dict[str, object]) -> None:
    for path in root.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    lay_out(root, {"always": (b"here\n", False), **tree})
    commit_all(root, "tree")


def version_of(connector: GitConnector, target: str) -> AssetVersion:
    [seen] = connector.observe(target, name="shop")
    assert seen.asset is not None
    return seen.asset


@settings(max_examples=8, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(trees, trees, st.data())
def test_any_tree_comes_back(
    good_tree: dict[str, object], bad_tree: dict[str, object], data: st.DataObject
) -> None:
    room = Path(tempfile.mkdtemp(prefix="asof-git-"))
    try:
        root = make_repository(room / "shop")
        connector = GitConnector(Settings(environ=os.environ))
        commit_tree(root, good_tree)
        good = version_of(connector, str(root))
        parts = sorted({path.split("/")[0] for path in tracked(root)})
        part = data.draw(st.sampled_from(parts))
        good_part = version_of(connector, f"{root}:{part}")
        commit_tree(root, bad_tree)
        bad = version_of(connector, str(root))
        others = {path: text for path, text in contents(root).items() if not is_at(path, part)}

        step = RestoreStep(id="1", slot="part", target=good_part, overwrite=True)
        assert connector.restore(step).status in ("done", "already")
        assert connector.read_back(step).digest == good_part.digest
        now = contents(root)
        clash = [path for path in others if path not in now]
        assert all(part == path or part.startswith(f"{path}/") for path in clash)
        assert {path: now[path] for path in others if path in now} == {
            path: text for path, text in others.items() if path in now
        }

        step = RestoreStep(id="2", slot="code", target=good, expected_digest_now=bad.digest)
        assert connector.restore(step).status in ("done", "already")
        assert connector.read_back(step).digest == good.digest
        assert git(root, "status", "--porcelain") == ""
        assert git(root, "rev-parse", "HEAD^{tree}") == good.details["tree"]
    finally:
        shutil.rmtree(room)


def tracked(root: Path) -> list[str]:
    return [path for path in git(root, "ls-files", "-z").split("\0") if path]


def contents(root: Path) -> dict[str, tuple[bytes, bool]]:
    found = {}
    for path in tracked(root):
        place = root / path
        found[path] = (place.read_bytes(), os.access(place, os.X_OK))
    return found


def is_at(path: str, part: str) -> bool:
    return path == part or path.startswith(f"{part}/")
