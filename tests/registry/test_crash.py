"""A server killed at any moment restarts with everything it acknowledged, and nothing in halves."""

import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from aiaas_async.registry.artifacts import ArtifactStore
from aiaas_async.registry.catalog import Catalog
from aiaas_async.registry.store import Store

pytestmark = pytest.mark.real

# Four clients at once, each: register, upload, add the file, commit, move an alias, save a job.
# A line is printed when a step is acknowledged.
SERVER = """
import asyncio, sys
from pathlib import Path
from aiaas_async.messages import FileEntry
from aiaas_async.registry.artifacts import ArtifactStore
from aiaas_async.registry.writer import RegistryWriter
from tests.registry.build import commit, metadata

folder, first = Path(sys.argv[1]), int(sys.argv[2])

async def client(writer, store, number):
    name = f"m{number % 4}"
    ref = metadata(name, str(number)).ref
    await writer.mutate(lambda d: d.register(metadata(*ref)))
    print("registered", *ref, flush=True)
    upload = store.begin()
    upload.write(str(number).encode() * 1000)
    entry = FileEntry("weights", *upload.finish())
    await writer.mutate(lambda d: d.add_file(ref, entry))
    print("added", *ref, flush=True)
    await writer.mutate(lambda d: commit(d, ref))
    print("committed", *ref, flush=True)
    def finish(draft):
        draft.set_alias(name, "champion", ref.version)
        draft.save_job(str(number), str(number).encode())
    await writer.mutate(finish)
    print("finished", *ref, flush=True)

async def main():
    writer = await RegistryWriter.open(folder / "registry.db")
    store = ArtifactStore(folder / "artifacts")
    for number in range(first, 10**6, 4):
        await asyncio.gather(*(client(writer, store, number + k) for k in range(4)))

asyncio.run(main())
"""


def run_and_kill(folder: Path, first: int, after: int) -> list[list[str]]:
    """Start the server, kill it after `after` acknowledgements; everything it acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder), str(first)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        said = [server.stdout.readline() for _ in range(after)]
        server.send_signal(signal.SIGKILL)
        said += server.stdout.readlines()
    return [line.split() for line in said if line.endswith("\n")]


def check(catalog: Catalog, jobs: list[bytes], acknowledged: list[list[str]]) -> None:
    for step, name, version in acknowledged:
        record = catalog.version(name, version)
        if step != "registered":
            assert [entry.path for entry in record.files] == ["weights"]
        if step in ("committed", "finished"):
            assert record.state == "ready"
        if step == "finished":
            assert int(catalog.alias(name, "champion").version) >= int(version)
            assert version.encode() in jobs


def test_whatever_was_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged: list[list[str]] = []
    for round_ in range(6):
        acknowledged += run_and_kill(tmp_path, round_ * 10_000, chance.randint(1, 400))
        with closing(Store(tmp_path / "registry.db")) as store:
            stored = store.load()
        assert stored.damage == []
        check(stored.catalog, stored.jobs, acknowledged)
        files = ArtifactStore(tmp_path / "artifacts")
        for record in stored.catalog.versions():
            for entry in record.files:
                files.verify(entry)
            # An alias moves in one transaction with its job: never one without the other.
            alias = stored.catalog.model(record.ref.name).aliases.get("champion")
            assert alias is None or alias.version.encode() in stored.jobs
        assert list((tmp_path / "artifacts" / "incoming").iterdir()) == []
    assert len(acknowledged) > 100
