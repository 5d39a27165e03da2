"""An alias goes back to the version it had before, in one call."""

from __future__ import annotations

from tests.http.api import Api
from tests.runtimes.artifacts import BARE


async def two_versions(api: Api) -> None:
    for version in ("1", "2"):
        body = {"name": "m", "version": version, "inputs": ["x"], "outputs": ["doubled"]}
        assert (await api.send("POST", "/register", {**body, "graph": BARE})).status == 200
        assert (await api.send("POST", f"/models/m/versions/{version}/commit")).status == 200
        moved = await api.send("PUT", "/models/m/aliases/champion", {"version": version})
        assert moved.status == 200


async def test_an_alias_rolls_back_and_then_has_nothing_left(api: Api) -> None:
    await two_versions(api)
    shown = await api.send("GET", "/models/m/aliases/champion")
    assert (shown.value["version"], shown.value["previous"]) == ("2", ["1"])
    stale = {"If-Match": '"1"'}
    refused = await api.send("POST", "/models/m/aliases/champion/rollback", headers=stale)
    assert (refused.status, refused.code) == (412, "precondition")
    fresh = {"If-Match": shown.headers["ETag"]}
    back = await api.send("POST", "/models/m/aliases/champion/rollback", headers=fresh)
    assert (back.status, back.value["version"], back.value["previous"]) == (200, "1", [])
    assert back.headers["ETag"] == f'"{back.value["revision"]}"'
    none = await api.send("POST", "/models/m/aliases/champion/rollback")
    assert (none.status, none.code) == (409, "conflict")
    gone = await api.send("POST", "/models/m/aliases/nobody/rollback")
    assert gone.status == 404
