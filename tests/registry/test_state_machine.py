"""Any sequence of changes, with restarts between, leaves what a plain dict would hold."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiaas_async.errors import AiaasError, ConflictError, NotFoundError, PreconditionError
from aiaas_async.names import ModelRef
from aiaas_async.registry.draft import Draft
from aiaas_async.registry.writer import RegistryWriter
from tests.folders import in_memory
from tests.registry.build import commit, entry, metadata

names = st.sampled_from(["a", "b"])
version_strings = st.sampled_from(["1.0", "2.0rc1", "odd"])
aliases = st.sampled_from(["champion", "odd"])
Files = dict[str, str]


class Registry(RuleBasedStateMachine):
    """The model: version → [description, files, state]; alias → version; job → bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = ExitStack()
        self.folder = self.kept.enter_context(in_memory())
        self.loop = asyncio.new_event_loop()
        self.versions: dict[tuple[str, str], list[Any]] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.revisions: dict[str, int] = {}
        self.seen: dict[tuple[str, str], int] = {}
        self.job_rows: dict[str, bytes] = {}
        self.open()

    def open(self) -> None:
        path = self.folder / "registry.db"
        self.writer = self.loop.run_until_complete(RegistryWriter.open(path))
        assert self.writer.damage == ()

    def teardown(self) -> None:
        self.loop.run_until_complete(self.writer.close())
        self.loop.close()
        self.kept.close()

    def do(self, change: Callable[[Draft], Any], error: type[AiaasError] | None) -> Any:
        """Make a change that must fail with exactly `error`, or succeed."""
        if error is None:
            return self.loop.run_until_complete(self.writer.mutate(change))
        with pytest.raises(error) as caught:
            self.loop.run_until_complete(self.writer.mutate(change))
        assert caught.type is error
        return None

    @rule(name=names, version=version_strings, description=st.sampled_from(["", "x"]))
    def register(self, name: str, version: str, description: str) -> None:
        known = self.versions.get((name, version))
        taken = known is None and (name, version) in self.aliases
        clash = known is not None and known[0] != description
        given = metadata(name, version, description=description)
        self.do(lambda d: d.register(given), ConflictError if taken or clash else None)
        if not taken and known is None:
            self.versions[name, version] = [description, {}, "registered"]

    @rule(name=names, version=version_strings, path=st.sampled_from("pq"), content=st.text("z"))
    def add_file(self, name: str, version: str, path: str, content: str) -> None:
        known = self.versions.get((name, version))
        error: type[AiaasError] | None = None if known else NotFoundError
        if known and known[2] != "registered":
            error = ConflictError
        file = entry(path, content)
        self.do(lambda d: d.add_file(ModelRef(name, version), file), error)
        if known and error is None:
            known[1][path] = file.sha256

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        ref = ModelRef(*data.draw(st.sampled_from(sorted(self.versions))))
        known = self.versions[ref]
        if known[2] == "registered" and not known[1]:
            return
        self.do(lambda d: commit(d, ref), None)
        known[2] = "ready" if known[2] == "registered" else known[2]

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        ref = ModelRef(*data.draw(st.sampled_from(sorted(self.versions))))
        known = self.versions[ref]
        error = ConflictError if known[2] == "registered" else None
        self.do(lambda d: d.mark_corrupt(ref, "rot"), error)
        known[2] = known[2] if error else "corrupt"

    @rule(name=names, alias=aliases, version=version_strings, kind=st.sampled_from(["any", "old"]))
    def set_alias(self, name: str, alias: str, version: str, kind: str) -> None:
        expected = None if kind == "any" else self.seen.get((name, alias), 0)
        error = self.alias_error(name, alias, version, expected)
        record = self.do(lambda d: d.set_alias(name, alias, version, expected), error)
        if error is None:
            if self.aliases.get((name, alias)) == version:  # nothing changed
                assert record.revision == self.seen[name, alias]
                return
            self.aliases[name, alias] = version
            assert record.revision > self.revisions.get(name, 0)
            self.revisions[name] = self.seen[name, alias] = record.revision

    def alias_error(
        self, name: str, alias: str, version: str, expected: int | None
    ) -> type[AiaasError] | None:
        if not any(ref[0] == name for ref in self.versions):
            return NotFoundError
        if (name, alias) in self.versions:
            return ConflictError
        if (name, version) not in self.versions:
            return NotFoundError
        there = (name, alias) in self.aliases
        if expected is not None and there != bool(expected):
            return PreconditionError
        unchanged = self.aliases.get((name, alias)) == version
        ready = self.versions[name, version][2] == "ready"
        return None if unchanged or ready else ConflictError

    @rule(name=names, alias=aliases)
    def delete_alias(self, name: str, alias: str) -> None:
        there = (name, alias) in self.aliases
        self.do(lambda d: d.delete_alias(name, alias), None if there else NotFoundError)
        self.aliases.pop((name, alias), None)

    @rule(name=names, version=version_strings)
    def delete_version(self, name: str, version: str) -> None:
        error: type[AiaasError] | None = None
        if (name, version) not in self.versions:
            error = NotFoundError
        elif any(n == name and v == version for (n, _), v in self.aliases.items()):
            error = ConflictError
        self.do(lambda d: d.delete_version(ModelRef(name, version)), error)
        if error is None:
            del self.versions[name, version]
            self.forget_if_gone(name)

    @rule(name=names)
    def delete_model(self, name: str) -> None:
        there = any(n == name for n, _ in self.versions)
        self.do(lambda d: d.delete_model(name), None if there else NotFoundError)
        self.versions = {ref: v for ref, v in self.versions.items() if ref[0] != name}
        self.aliases = {ref: v for ref, v in self.aliases.items() if ref[0] != name}
        self.forget_if_gone(name)

    def forget_if_gone(self, name: str) -> None:
        """A model that is registered anew counts its revisions anew."""
        if not any(n == name for n, _ in self.versions):
            self.revisions.pop(name, None)
            self.seen = {ref: r for ref, r in self.seen.items() if ref[0] != name}

    @rule(job=st.sampled_from("xy"), record=st.binary(max_size=4), keep=st.booleans())
    def save_job(self, job: str, record: bytes, keep: bool) -> None:
        if keep:
            self.do(lambda d: d.save_job(job, record), None)
            self.job_rows[job] = record
        else:
            self.do(lambda d: d.delete_job(job), None)
            self.job_rows.pop(job, None)

    @rule()
    def restart(self) -> None:
        before, secret = self.writer.catalog, self.writer.secret
        self.loop.run_until_complete(self.writer.close())
        self.open()
        again = {model.name: model for model in self.writer.catalog.models()}
        assert again == {model.name: model for model in before.models()}
        assert self.writer.secret == secret
        assert sorted(self.writer.jobs()) == sorted(self.job_rows.values())

    @invariant()
    def the_catalogue_holds_what_the_model_holds(self) -> None:
        catalog = self.writer.catalog
        held = {
            (*r.ref,): [r.metadata.description, {f.path: f.sha256 for f in r.files}, r.state]
            for r in catalog.versions()
        }
        assert held == self.versions
        assert {
            (m.name, a.alias): a.version for m in catalog.models() for a in m.aliases.values()
        } == self.aliases
        assert catalog.digests() == {s for v in self.versions.values() for s in v[1].values()}
        takers = catalog.taking(frozenset({"image"}))
        assert [r.ref.name for r in takers] == sorted({n for n, _ in self.versions})


Registry.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_registry = Registry.TestCase
