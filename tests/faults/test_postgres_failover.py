"""When the primary is lost: a synchronous standby has everything; what went on without the newest
entries, and an old backup that was restored, are refused until somebody says what happened.

The guard beside the key knows what was signed. A database cannot know what it has lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.errors import RefusedError, StoreError, TamperError, UnknownOutcomeError
from ledger.opening import Ledger, open_ledger, recover
from ledger.receipt import Receipt, check_receipt
from scripts.clusters import Cluster
from scripts.clusters.copies import (
    back_up,
    cut_replication,
    promote,
    restore,
    standby,
    wait_for_replay,
)
from scripts.clusters.processes import wait_until
from tests.support.appending import check_journal, client
from tests.support.ledgers import note
from tests.support.postgres import APP, prepared
from tests.support.postgres_ledgers import begin, check_valid, texts

DATABASE = "audit"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def url(pg_cluster: Cluster, keys: Path) -> str:
    url = prepared(pg_cluster.create_database(DATABASE))
    begin(url, keys)
    return url


@contextmanager
def following(primary: Cluster, *, synchronous: bool = False) -> Iterator[Cluster]:
    with standby(primary, primary.folder.parent / "second", synchronous=synchronous) as second:
        second.start()
        wait_for_replay(primary, second)
        yield second


def append(url: str, keys: Path, *notes: str) -> list[Receipt]:
    """Each in a batch of its own, with its text for a key."""
    with open_ledger(url, keys=keys) as ledger:
        done = [ledger.writer.append([note(text)], idempotency_key=text) for text in notes]
        return [answer.receipts[0] for answer in done]


def url_of(cluster: Cluster) -> str:
    return cluster.dsn(DATABASE, APP)


def both(primary: Cluster, second: Cluster) -> str:
    """The URL with which a program finds whichever takes writes."""
    hosts, ports = "127.0.0.1,127.0.0.1", f"{primary.port},{second.port}"
    return f"postgresql://{APP}@/{DATABASE}?host={hosts}&port={ports}"


def test_a_synchronous_standby_loses_nothing(
    pg_cluster: Cluster, url: str, keys: Path, tmp_path: Path
) -> None:
    """The primary is killed under load. The program, whose URL names both, goes on by itself with
    the standby; all that was acknowledged is there."""
    journal = tmp_path / "journal"
    with following(pg_cluster, synchronous=True) as second:
        state = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: pg_cluster.execute(state) == [("sync",)], "the synchronous standby")
        address = both(pg_cluster, second)
        with client(address, keys, journal, "small-0", "small-1", "large-0") as program:
            program.wait_for_more(40)
            pg_cluster.kill()
            promote(second)
            program.wait_for_more(40)
        counts = check_journal(url_of(second), keys, journal)
        assert counts["acknowledged"] >= 80


def test_a_commit_that_no_standby_confirmed_is_unknown(
    pg_cluster: Cluster, url: str, keys: Path
) -> None:
    """The wait for the standby is cancelled: it is written here, and may be lost with this server.
    That is no acknowledgement, and the guard does not count it before the key was asked."""
    with following(pg_cluster, synchronous=True) as second, open_ledger(url, keys=keys) as ledger:
        ledger.writer.append([note("confirmed")])
        second.stop()
        waiting = ledger.writer.submit([note("alone")], idempotency_key="alone")
        held = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        wait_until(lambda: len(pg_cluster.execute(held)) == 1, "the commit to wait")
        pg_cluster.execute(f"SELECT pg_cancel_backend(pid) FROM ({held}) AS waiting")
        with pytest.raises(UnknownOutcomeError, match="may be missing on the standby"):
            waiting.result(30)
        assert guarded_size(ledger) == 2
        second.start()
        assert ledger.writer.append([note("alone")], idempotency_key="alone").repeated
        assert guarded_size(ledger) == 3
    check_valid(url, keys)


def test_a_key_does_not_answer_for_what_the_standby_lacks(
    pg_cluster: Cluster, url: str, keys: Path
) -> None:
    """The primary dies while a commit waits for its standby, and recovers with the entry. The key's
    answer would be the acknowledgement, so it waits as the commit did."""
    with following(pg_cluster, synchronous=True) as second:
        append(url, keys, "confirmed")
        second.stop()
        with open_ledger(url, keys=keys) as ledger:
            waiting = ledger.writer.submit([note("alone")], idempotency_key="alone")
            wait_until(lambda: waits_for_standby(pg_cluster), "the commit to wait")
            pg_cluster.kill()
            with pytest.raises(UnknownOutcomeError):
                waiting.result(30)
            pg_cluster.start()
            assert ledger.reader.size() == 3
            again = ledger.writer.submit([note("alone")], idempotency_key="alone")
            with pytest.raises(TimeoutError):
                again.result(1)
            second.start()
            assert again.result(30).repeated
        pg_cluster.kill()
        promote(second)
        append(url_of(second), keys, "after")
        assert texts(url_of(second), keys) == ["confirmed", "alone", "after"]


def waits_for_standby(cluster: Cluster) -> bool:
    held = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    return len(cluster.execute(held)) == 1


def guarded_size(ledger: Ledger) -> int:
    mark = ledger.guard.read()
    assert mark is not None
    return mark.size


def test_a_standby_reads_and_refuses_to_append(pg_cluster: Cluster, url: str, keys: Path) -> None:
    append(url, keys, "before")
    with following(pg_cluster) as second:
        with open_ledger(url_of(second), keys=keys, write=False) as ledger:
            assert ledger.reader.entry(1).data == {"text": "before"}
        with pytest.raises(StoreError, match=r"read-only|standby"):
            open_ledger(url_of(second), keys=keys)


def test_a_lost_tail_is_refused_and_recovered_on_request(
    pg_cluster: Cluster, url: str, keys: Path
) -> None:
    """The standby was behind when it was promoted: entries 2 and 3 are gone. It is refused, for
    reading where the guard is at hand too, with their numbers; after `recover` the ledger goes on,
    says so for ever, and the receipts for what is missing still stand."""
    append(url, keys, "kept")
    with following(pg_cluster) as second:
        cut_replication(second)
        lost = append(url, keys, "lost one", "lost two")
        pg_cluster.kill()
        promote(second)
        after = url_of(second)
        for write in (True, False):
            with pytest.raises(TamperError, match="entries 2 to 3 are missing") as told:
                open_ledger(after, keys=keys, write=write)
            assert "asof ledger recover" in str(told.value)
        check_recovered(after, keys, missing=2, size=4)
        for receipt in lost:
            with open_ledger(after, keys=keys) as ledger:
                check_receipt(receipt, ledger.vkey)
                assert ledger.reader.entry_bytes(receipt.index) != receipt.entry


def test_an_open_ledger_notices_that_the_tail_is_lost(
    pg_cluster: Cluster, url: str, keys: Path
) -> None:
    """The program never restarts: its connection is lost, and the next one leads to the standby."""
    append(url, keys, "kept")
    with following(pg_cluster) as second:
        with open_ledger(both(pg_cluster, second), keys=keys) as ledger:
            ledger.writer.append([note("kept, too")])
            wait_for_replay(pg_cluster, second)
            cut_replication(second)
            ledger.writer.append([note("lost")])
            pg_cluster.kill()
            promote(second)
            with pytest.raises(TamperError, match="went back while it was open"):
                for _ in range(2):  # the first may be told that the old connection is lost
                    try:
                        ledger.writer.append([note("on top")])
                    except StoreError:
                        continue
            with pytest.raises(StoreError, match="the writer stopped"):
                ledger.writer.append([note("on top")])
        assert texts_unguarded(url_of(second), keys) == ["kept", "kept, too"]


def test_an_open_ledger_notices_a_longer_ledger_that_lost_its_tail(
    pg_cluster: Cluster, url: str, keys: Path, tmp_path: Path
) -> None:
    """Another program, with a copy of the key folder from before, has appended to the standby
    meanwhile: the ledger is as long as it was, and is not the one that was signed."""
    append(url, keys, "kept")
    other = tmp_path / "other"
    with following(pg_cluster) as second:
        copy_keys(keys, other)
        cut_replication(second)
        with open_ledger(both(pg_cluster, second), keys=keys) as ledger:
            ledger.writer.append([note("lost")])
            pg_cluster.kill()
            promote(second)
            append(url_of(second), other, "another one", "and one more")
            with pytest.raises(TamperError, match=r"not those that were there before"):
                for _ in range(2):
                    try:
                        ledger.writer.append([note("on top")])
                    except StoreError:
                        continue
        with pytest.raises(TamperError, match="not those that were signed"):
            open_ledger(url_of(second), keys=keys)
        with pytest.raises(TamperError, match="not those that were signed"):
            recover(url_of(second), keys=keys, why="it was lost", actor="user:7")


def test_a_restored_backup_is_refused_and_recovered_on_request(
    pg_cluster: Cluster, pg_folder: Path, url: str, keys: Path
) -> None:
    append(url, keys, "kept")
    pg_cluster.stop()
    back_up(pg_cluster, pg_folder / "backup")
    pg_cluster.start()
    append(url, keys, "lost")
    pg_cluster.stop()
    restore(pg_cluster, pg_folder / "backup")
    pg_cluster.start()
    with pytest.raises(TamperError, match="entry 2 is missing"):
        open_ledger(url, keys=keys)
    check_recovered(url, keys, missing=2, size=3)


def test_a_backup_of_all_there_is_opens(
    pg_cluster: Cluster, pg_folder: Path, url: str, keys: Path
) -> None:
    """The negative control: the same restore, with nothing lost, is nobody's business."""
    append(url, keys, "kept")
    pg_cluster.stop()
    back_up(pg_cluster, pg_folder / "backup")
    restore(pg_cluster, pg_folder / "backup")
    pg_cluster.start()
    append(url, keys, "after")
    assert texts(url, keys) == ["kept", "after"]
    check_valid(url, keys)
    with pytest.raises(RefusedError, match="nothing to recover"):
        recover(url, keys=keys, why="to see", actor="user:7")


def copy_keys(keys: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for file in keys.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
        (target / file.name).chmod(file.stat().st_mode & 0o777)


def texts_unguarded(url: str, keys: Path) -> list[str]:
    """What is there, whatever the guard says."""
    with open_ledger(url, keys=keys, write=False, check=False) as ledger:
        return [record.data["text"] for record in ledger.reader.entries(1)]


def check_recovered(url: str, keys: Path, *, missing: int, size: int) -> None:
    """`recover` writes where the ledger is and where it was; then it is as good as any."""
    done = recover(url, keys=keys, why="the primary burned", actor="user:7")
    with open_ledger(url, keys=keys) as ledger:
        epoch = ledger.reader.entry(done.first_index)
        assert epoch.type == "epoch.started/1" and epoch.data["why"] == "the primary burned"
        assert epoch.data["from"]["tree_size"] == size
        assert epoch.data["to"]["tree_size"] == missing == epoch.index
    append(url, keys, "after")
    assert texts(url, keys) == ["kept", "after"]
    check_valid(url, keys)
