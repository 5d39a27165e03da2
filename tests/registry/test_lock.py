"""One server to a data directory."""

import subprocess
import sys
from pathlib import Path

import pytest

from aiaas_async.errors import ConflictError, StorageError
from aiaas_async.registry.lock import DataDirectoryLock


def test_a_second_server_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path), pytest.raises(ConflictError, match="in use by another"):
        DataDirectoryLock(tmp_path)
    lock = DataDirectoryLock(tmp_path)
    lock.release()
    lock.release()
    DataDirectoryLock(tmp_path).release()


def test_a_directory_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="lock cannot be written") as caught:
        DataDirectoryLock(tmp_path / "missing")
    assert str(tmp_path) not in caught.value.message


@pytest.mark.real
def test_the_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path\n"
        "from aiaas_async.registry.lock import DataDirectoryLock\n"
        "lock = DataDirectoryLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ConflictError):
            DataDirectoryLock(tmp_path)
        process.kill()
        process.wait()
    DataDirectoryLock(tmp_path).release()
