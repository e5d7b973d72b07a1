"""Several processes, several threads each, one ledger: no fork, no loss, no entry twice."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from ledger.errors import ConflictError
from ledger.opening import open_ledger
from tests.support.crashing import run_child
from tests.support.ledgers import check_whole, note, sqlite_ledger, sqlite_url

PROCESSES = 4
THREADS = 4
BATCHES = 10


def test_processes_and_threads_append_to_one_ledger(tmp_path: Path) -> None:
    """Each thread has a stream of its own with expected versions, shares one with all others, and
    races for the versions of a third; a retried key of another process is a repeat."""
    sqlite_ledger(tmp_path).close()
    url = sqlite_url(tmp_path)

    def work(process: int) -> None:
        with open_ledger(url) as ledger:

            def append_all(thread: int) -> None:
                own = f"note/{process}-{thread}"
                for n in range(BATCHES):
                    key = f"{process}-{thread}-{n}"
                    drafts = [note(key, own, expected=n), note(key, "note/shared")]
                    done = ledger.writer.append(drafts, idempotency_key=key)
                    again = ledger.writer.append(drafts, idempotency_key=key)
                    assert again.repeated and again.first_index == done.first_index
                    append_raced(n)

            def append_raced(n: int) -> None:
                try:
                    ledger.writer.append([note("won", "note/raced", expected=n)])
                except ConflictError:
                    pass

            threads = [threading.Thread(target=append_all, args=(n,)) for n in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            same = ledger.writer.append([note("same", "note/once")], idempotency_key="everybody's")
            assert ledger.reader.entry(same.first_index).data == {"text": "same"}

    children = []
    for process in range(PROCESSES):
        child = os.fork()
        if child == 0:
            os._exit(run_child(lambda: work(process)))  # noqa: B023
        children.append(child)
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with open_ledger(url) as ledger:
        check_whole(ledger.store, ledger.reader)
        reader = ledger.reader
        all_of_them = PROCESSES * THREADS * BATCHES
        assert reader.stream_version("note/shared") == all_of_them
        assert reader.stream_version("note/once") == 1
        assert 1 <= reader.stream_version("note/raced") <= BATCHES
        assert len(list(ledger.store.key_uses())) == all_of_them + 1
        for process in range(PROCESSES):
            for thread in range(THREADS):
                texts = [record.data for record in reader.stream(f"note/{process}-{thread}")]
                assert texts == [{"text": f"{process}-{thread}-{n}"} for n in range(BATCHES)]
        times = [record.recorded_at for record in reader.entries()]
        assert times == sorted(times)
        mark = ledger.guard.read()
        assert mark is not None and mark.size == reader.size()
