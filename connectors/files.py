"""The connector for plain files: data sets, model files, folders of them.

::

    connector = FilesConnector(Settings(environ=os.environ, objects=Path("asof.objects")))
    [seen] = connector.observe("/srv/shop/orders.csv")
    seen.asset.ref         # 'dataset/orders.csv@9f86d0…': the version is the content's hash
    seen.asset.source      # {'system': 'files', 'ref': 'sha256:9f86…', 'details': {…}}

The digest of a file is the SHA-256 of its bytes, as `sha256sum` prints it; that of a folder is
the SHA-256 of its listing (`connectors.listing`). docs/connectors/files.md says what is kept and
what not.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from connectors.connector import (
    AssetVersion,
    Availability,
    Idempotency,
    Message,
    Observation,
    Outcome,
    RestoreStep,
    Settings,
    check_digest,
    check_plain_path,
    check_system,
    drift,
    path_of_location,
    plain_name,
)
from connectors.listing import EXECUTABLE, TreeEntry, listing_digest
from connectors.objects import ObjectStore
from connectors.placing import Content, mend, place
from connectors.reading import (
    Hashed,
    Meter,
    disk_errors,
    hash_open,
    hash_text,
    read_file,
    read_tree,
    walk,
)
from ledger.errors import (
    AsofError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TamperError,
)

__all__ = ["FilesConnector"]


class FilesConnector:
    """Files and folders of this machine, kept in an object store."""

    system: str = "files"
    idempotency: Idempotency = "read_back"

    def __init__(self, settings: Settings) -> None:
        if settings.objects is None:
            raise MalformedError("the connector for files needs a folder for its object store")
        self._settings = settings
        self._store = ObjectStore(settings.objects)

    def observe(
        self, target: str, *, kind: str | None = None, name: str | None = None
    ) -> list[Observation]:
        """The file or folder at `target`, kept. See `Connector.observe`."""
        path = _resolved(target)
        is_tree = _is_tree(path)
        self._check_outside_store(path)
        meter = self._meter(path, is_tree)
        if is_tree:
            listing, entries = self._store.put_tree(path, meter)
            asset = _asset(path, listing, entries, "tree", kind, name)
        else:
            entry = self._store.put_file(path, meter)
            asset = _asset(path, Hashed(entry.sha256, entry.size), (entry,), "file", kind, name)
        details = {"path": str(path), "files": asset.metadata["files"], "bytes": asset.size}
        return [
            Observation(
                system=self.system,
                target=str(path),
                asset=asset,
                digest=asset.digest,
                details=details,
            )
        ]

    def translate(self, message: Message) -> list[tuple[str, dict[str, Any]]]:
        """Always refused: files send nothing. Raises: MalformedError."""
        raise MalformedError("files send no messages; capture them instead")

    def available(self, version: AssetVersion) -> Availability:
        """Whether each object of the version is in the store, whole. Reads them all."""
        check_system(version, self.system)
        sha256 = check_digest(version.digest)
        meter = Meter(self._settings.progress, version.size)
        try:
            if _form(version) == "tree":
                self._store.check_tree(sha256, meter)
            else:
                self._store.check(sha256, meter)
        except NotFoundError as error:
            return Availability(status="missing", detail=str(error))
        except (TamperError, MalformedError) as error:
            return Availability(status="changed", detail=str(error))
        except StoreError as error:
            return Availability(status="unknown", detail=str(error))
        return Availability(status="available")

    def restore(self, step: RestoreStep) -> Outcome:
        """Put the version's content back to its place. See `Connector.restore`."""
        check_system(step.target, self.system)
        path = path_of_location(step.target.location)
        try:
            mend(path)
            found = self._digest_at(path)
            if found == step.target.digest:
                return Outcome(status="already", observed_digest=found)
            if reason := drift(step, found):
                return Outcome(status="refused", detail=f"{path}: {reason}", observed_digest=found)
            return self._replace(step, path, found)
        except RefusedError as error:
            return Outcome(status="refused", detail=str(error))
        except AsofError as error:
            return Outcome(status="failed", detail=str(error))

    def read_back(self, step: RestoreStep) -> Observation:
        """The digest of what is at the version's place now; None for nothing."""
        check_system(step.target, self.system)
        path = path_of_location(step.target.location)
        digest = self._digest_at(path)
        asset = step.target if digest == step.target.digest else None
        return Observation(
            system=self.system,
            target=str(path),
            asset=asset,
            digest=digest,
            details={"path": str(path)},
        )

    def _replace(self, step: RestoreStep, path: Path, found: str | None) -> Outcome:
        kept = self._keep_unexpected(step, path, found)
        content = Content(
            sha256=check_digest(step.target.digest),
            is_tree=_form(step.target) == "tree",
            executable=step.target.details.get("mode") == EXECUTABLE,
        )
        # Written once and read once; the size of a tree stands in its version.
        total = None if step.target.size is None else 2 * step.target.size
        place(self._store, content, path, Meter(self._settings.progress, total))
        return Outcome(status="done", detail=kept, observed_digest=self._digest_at(path))

    def _keep_unexpected(self, step: RestoreStep, path: Path, found: str | None) -> str:
        """What nobody recorded is kept before a step that may overwrite it does so."""
        if found is None or found == step.expected_digest_now:
            return ""
        if _is_tree(path):
            self._store.put_tree(path)
        else:
            self._store.put_file(path)
        return f"what was there is kept in the object store as {found}"

    def _digest_at(self, path: Path) -> str | None:
        """The digest of what is at `path` now, or None. Reads all of it; changes nothing."""
        if not os.path.lexists(path):
            return None
        if _is_tree(path):
            meter = self._meter(path, True, passes=1)
            return listing_digest(read_tree(path, lambda file: hash_open(file, meter), hash_text))
        meter = self._meter(path, False, passes=1)
        return f"sha256:{read_file(path, lambda file: hash_open(file, meter)).sha256}"

    def _meter(self, path: Path, is_tree: bool, passes: int = 2) -> Meter:
        """Progress over all bytes that will be read: at capture, each is read twice."""
        with disk_errors(path):
            total = sum(thing.size for thing in walk(path)) if is_tree else path.lstat().st_size
        return Meter(self._settings.progress, passes * total)

    def _check_outside_store(self, path: Path) -> None:
        root = Path(os.path.realpath(self._store.root))
        if path == root or path in root.parents or root in path.parents:
            raise RefusedError(
                f"{path} and the object store {root} lie inside each other; name another folder"
            )


def _resolved(target: str) -> Path:
    """The absolute path of a target: links in its parents followed, the last part as it is.

    Raises: MalformedError, NotFoundError, RefusedError for a link.
    """
    if not target or "\0" in target:
        raise MalformedError("name a file or a folder", where="target")
    path = Path(os.path.abspath(target))
    path = check_plain_path(Path(os.path.realpath(path.parent)) / path.name)
    if not os.path.lexists(path):
        raise NotFoundError(f"{path}: there is no such file or folder")
    if path.is_symlink():
        raise RefusedError(
            f"{path} is a symbolic link; name what it points to: {os.path.realpath(path)}"
        )
    return path


def _is_tree(path: Path) -> bool:
    """Folder or file. Raises: RefusedError for anything else."""
    with disk_errors(path):
        mode = path.lstat().st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise RefusedError(f"{path} is neither a file nor a folder")
    return stat.S_ISDIR(mode)


def _form(version: AssetVersion) -> str:
    """`file` or `tree`. Raises: MalformedError."""
    form = version.details.get("form")
    if form not in ("file", "tree"):
        raise MalformedError(
            f"{version.ref} does not say whether it is a file or a tree", where="/source"
        )
    return str(form)


def _asset(
    path: Path,
    hashed: Hashed,
    entries: tuple[TreeEntry, ...],
    form: str,
    kind: str | None,
    name: str | None,
) -> AssetVersion:
    digest = f"sha256:{hashed.sha256}"
    details = {"path": str(path), "form": form}
    if form == "file":
        details["mode"] = entries[0].mode
    return AssetVersion(
        kind=kind or "dataset",
        name=name or plain_name(path.name),
        version=hashed.sha256,
        digest=digest,
        location=path.as_uri(),
        source={"system": "files", "ref": digest, "details": details},
        restorable="restorable",
        size=sum(entry.size for entry in entries),
        metadata={"files": len(entries)},
    )
