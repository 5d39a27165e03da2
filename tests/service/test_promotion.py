"""Train, version, alias in one transaction: through the gate, or a candidate with the reason."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiaas_async.compute.base import Answer
from aiaas_async.compute.inloop import InLoopWorker, InLoopWorkers
from aiaas_async.compute.jobs import Infer, Job, Load
from aiaas_async.errors import ConflictError, InvalidError, InvalidNameError, MemoryBudgetError
from aiaas_async.registry.records import Candidate
from aiaas_async.service.calls import CallRequest
from aiaas_async.service.platform import Platform
from tests.service.conftest import Start
from tests.service.test_distributed import result, submitted, with_points
from tests.training.data import points

EASY = {"register_as": {"alias": "champion", "gate": "val_accuracy >= 0.1"}}
HARD = {"register_as": {"alias": "champion", "gate": "val_loss < 0"}}


async def trained(platform: Platform, version: str, request: dict[str, Any]) -> dict[str, Any]:
    return await result(await submitted(platform, version, request, method="sgd"))


async def test_a_version_that_passes_is_promoted_and_one_that_does_not_is_a_candidate(
    start: Start,
) -> None:
    async with start() as platform:
        await with_points(platform)
        first = await trained(platform, "1", EASY)
        assert (first["promoted"], first["alias"]) == (True, "champion")
        second = await trained(platform, "2", HARD)
        assert (second["promoted"], second["alias"]) == (False, None)
        assert second["candidate"] is True
        assert second["reason"].startswith("val_loss is 0.")
        assert second["reason"].endswith("the gate asks for val_loss < 0")
        catalog = platform.models.catalog
        assert catalog.version("clouds", "2").state == "ready"
        assert catalog.version("clouds", "champion").ref.version == "1"
    async with start() as platform:
        held = platform.models.catalog.version("clouds", "2").candidate
        assert held == Candidate("champion", second["reason"])
        assert platform.models.catalog.latest("clouds") == "1"


async def test_an_alias_that_moved_meanwhile_is_left_alone(start: Start) -> None:
    async with start(running_jobs=2) as platform:
        await with_points(platform)
        await trained(platform, "1", {"register_as": {"alias": "other"}})
        job = await submitted(platform, "2", EASY, method="sgd", epochs=20)
        await platform.models.set_alias("clouds", "champion", "1", None)
        facts = await result(job)
        assert (facts["promoted"], facts["candidate"]) == (False, False)
        assert "the request expected that it did not exist" in facts["reason"]
        assert platform.models.catalog.version("clouds", "champion").ref.version == "1"


class Watched(InLoopWorkers):
    """Remembers what the workers were asked to do, and where the alias pointed then."""

    def __init__(self) -> None:
        super().__init__()
        self.platform: Platform | None = None
        self.seen: list[tuple[type[Job], str | None]] = []
        self.refuse: type[Job] | None = None

    async def spawn(self, nice: int = 0) -> InLoopWorker:
        return Noting(self)


class Noting(InLoopWorker):
    def __init__(self, notes: Watched) -> None:
        super().__init__()
        self._notes = notes

    def submit(self, job: Job, *given: Any, **named: Any) -> asyncio.Future[Answer]:
        notes = self._notes
        model = notes.platform and notes.platform.models.catalog.find("clouds")
        alias = model.aliases.get("champion") if model else None
        notes.seen.append((type(job), None if alias is None else alias.version))
        if isinstance(job, notes.refuse or ()):
            refused: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            refused.set_exception(MemoryBudgetError("no room on any node"))
            return refused
        return super().submit(job, *given, **named)


async def test_a_version_is_loaded_and_has_run_before_its_alias_moves(start: Start) -> None:
    workers = Watched()
    async with start(workers) as platform:
        workers.platform = platform
        await with_points(platform)
        await trained(platform, "1", EASY)
        del workers.seen[:]
        await trained(platform, "2", EASY)
        assert [each for each in workers.seen if each[0] in (Load, Infer)] == [
            (Load, "1"),
            (Infer, "1"),
        ]
        assert platform.models.catalog.version("clouds", "champion").ref.version == "2"
        loaded = [
            name for node in platform.cluster.nodes.values() for name in node.status()["loaded"]
        ]
        assert sorted(loaded) == ["clouds:1", "clouds:2"]
        del workers.seen[:]
        await platform.calls.call(CallRequest({"x": points(1)["x"]}, "clouds", "champion"))
        assert [job for job, _ in workers.seen] == [Infer]


@pytest.mark.parametrize("step", [Load, Infer])
@pytest.mark.parametrize("asked", [EASY, {"alias": "champion"}])
async def test_a_version_that_cannot_be_loaded_or_run_leaves_the_alias_and_says_why(
    start: Start, step: type[Job], asked: dict[str, Any]
) -> None:
    workers = Watched()
    async with start(workers) as platform:
        await with_points(platform)
        await trained(platform, "1", EASY)
        workers.refuse = step
        facts = await trained(platform, "2", asked)
        assert (facts["promoted"], facts["alias"]) == (False, None)
        assert facts["reason"] == "it could not be loaded: no room on any node"
        catalog = platform.models.catalog
        assert catalog.version("clouds", "champion").ref.version == "1"
        assert catalog.version("clouds", "2").state == "ready"


async def test_a_candidate_behind_its_gate_is_not_loaded(start: Start) -> None:
    workers = Watched()
    async with start(workers) as platform:
        await with_points(platform)
        await trained(platform, "1", HARD)
        assert not {Load, Infer} & {job for job, _ in workers.seen}


@pytest.mark.parametrize("asked", [EASY, {"alias": "champion"}])
async def test_a_run_that_differs_from_a_single_node_s_is_not_promoted(
    start: Start, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr("aiaas_async.training.part.TOLERANCE", -1.0)
    async with start() as platform:
        await with_points(platform)
        facts = await result(await submitted(platform, "1", asked, verify=True))
        assert (facts["promoted"], facts["alias"]) == (False, None)
        assert "its weights differ from those of one node by" in facts["reason"]
        assert not platform.models.catalog.model("clouds").aliases


async def test_rolling_back_goes_to_the_version_before_also_after_a_restart(start: Start) -> None:
    async with start() as platform:
        await with_points(platform)
        for version in ("1", "2", "3"):
            await trained(platform, version, EASY)
    async with start() as platform:
        models = platform.models
        back = await models.roll_back_alias("clouds", "champion", None)
        assert (back.version, back.previous) == ("2", ("1",))
        await models.delete("clouds", "1")
        with pytest.raises(
            ConflictError, match=r"no earlier version.*point it at another version$"
        ):
            await models.roll_back_alias("clouds", "champion", None)
        with pytest.raises(ConflictError, match="revision"):
            await models.roll_back_alias("clouds", "champion", back.revision - 1)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"register_as": {"alias": "a", "gate": "accuracy"}}, "must be a metric"),
        ({"register_as": {"alias": "a", "gate": "acuracy > 1"}}, "did you mean 'accuracy'"),
        ({"register_as": {"alias": "a"}, "alias": "b"}, "either 'alias' or 'register_as'"),
        ({"register_as": {"alias": "a", "gates": "loss < 1"}}, "gates"),
    ],
)
async def test_what_cannot_be_a_promotion_is_refused_at_once(
    start: Start, given: dict[str, Any], reason: str
) -> None:
    async with start() as platform:
        await with_points(platform)
        with pytest.raises(InvalidError, match=reason):
            await submitted(platform, "1", given)
        with pytest.raises(InvalidError, match=r"plan\.validation is 0"):
            await submitted(platform, "1", EASY, validation=0)
        with pytest.raises(InvalidNameError):
            await submitted(platform, "1", {"register_as": {"alias": "../up"}})
