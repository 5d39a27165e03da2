"""What is asked of a deployment, checked before anything is planned: contradictions are refused
rather than decided one way in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from aiaas_async.deploy.plan import PlanRequest
from aiaas_async.errors import InvalidError
from aiaas_async.misfit import misfit
from aiaas_async.names import LATEST, clip

_OWN: Final = ("model", "version", "max_delay_ms", "cache_mb")  # not the planner's


class DeploymentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for; `request` in the words of the planner. `cache_mb`: MiB of answers that
    are remembered for equal inputs."""

    model: str
    version: str = LATEST
    request: PlanRequest = PlanRequest()
    max_delay_ms: float = 0.0
    cache_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0


def parse_spec(body: Mapping[str, Any]) -> DeploymentSpec:
    """Raises `InvalidError` naming the field at fault."""
    own = {name: body[name] for name in _OWN if name in body}
    asked = {name: value for name, value in body.items() if name not in own}
    for name in asked:
        if name not in PlanRequest.__struct_fields__:
            known = ", ".join((*_OWN, *PlanRequest.__struct_fields__))
            raise InvalidError(f"a deployment has no field {clip(name)}; fields: {known}")
    given = {**own, "request": _agreed(asked)}
    try:
        spec = msgspec.convert(given, DeploymentSpec, strict=True)
    except msgspec.ValidationError as error:
        said = misfit(error, given, DeploymentSpec).removeprefix("request.")
        raise InvalidError(f"deployment: {said}") from error
    if not 0 <= spec.max_delay_ms <= 10_000:
        raise InvalidError(f"max_delay_ms must be 0 to 10000, got {spec.max_delay_ms}")
    return spec


def _agreed(asked: dict[str, Any]) -> dict[str, Any]:
    """The planner's fields: a split is distributed. Raises `InvalidError` where what was asked
    for one way says how to go another."""
    mode = asked.get("mode", "distributed" if "split" in asked else "centralized")
    if mode == "centralized":
        for field in ("split", "nodes"):
            if field in asked:
                raise InvalidError(
                    f"{field} {clip(asked[field])} is for a version that is divided over nodes, "
                    f"and centralized ones are whole: leave mode out and give split, or leave "
                    f"{field} out (copies of the whole: replicas)"
                )
    elif asked.get("replicas", 1) != 1:
        raise InvalidError(
            f"replicas {clip(asked['replicas'])} are copies of a whole version, and a split has "
            "none; leave split and mode out, or replicas"
        )
    return {**asked, "mode": mode}
