"""How to train, as data: checked once, before anything is read or allocated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from aiaas_async.errors import InvalidError
from aiaas_async.misfit import misfit
from aiaas_async.names import clip
from aiaas_async.nn.graph import near
from aiaas_async.nn.losses import LOSSES
from aiaas_async.nn.optim import OPTIMIZERS, Adam, Sgd
from aiaas_async.nn.schedules import SCHEDULES, Constant

MAX_EPOCHS: Final = 100_000
MAX_BATCH: Final = 1_048_576
MAX_NODES: Final = 256
_RATES: Final = {"sgd": 0.05, "adam": 0.001, "adamw": 0.001}

Method = Literal["gd", "sgd", "distributed"]
Metric = Literal["val_loss", "val_accuracy"]
Epochs = Annotated[int, msgspec.Meta(ge=1, le=MAX_EPOCHS)]
Batch = Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH)]
Rate = Annotated[float, msgspec.Meta(gt=0.0, le=1e6)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=0.9)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=86_400.0)]
Steps = Annotated[int, msgspec.Meta(ge=1)]
Parts = Annotated[int, msgspec.Meta(ge=1, le=4096)]
Nodes = Annotated[int, msgspec.Meta(ge=1, le=MAX_NODES)]
Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Patterns = Annotated[tuple[Pattern, ...], msgspec.Meta(min_length=1, max_length=1000)]
Timeout = Annotated[float, msgspec.Meta(ge=0.1, le=86_400.0)]


class EarlyStopping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop after `patience` epochs in which `metric` did not get better by over `min_delta`;
    the weights of the best epoch are the result."""

    metric: Metric = "val_loss"
    patience: Epochs = 5
    min_delta: Annotated[float, msgspec.Meta(ge=0.0, le=1e6)] = 0.0


class TrainingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`method` gd: one step an epoch on the mean gradient of all items, computed `batch_size`
    items at a time; sgd: a step for each `accumulate` batches; distributed: as sgd, each batch
    divided over `nodes`. None stands for what the graph, or the ring, says. `verify`: train the
    first steps again on one node and compare. `trainable`: only what these names or patterns fit
    is trained ("head", "block?.*"), as `Network.training_only` says; None: everything. A node of
    a distributed run that shows no sign of life for `step_timeout_s` is replaced; gd and sgd
    have no use for it: their worker is ended when the job is cancelled and it does not stop."""

    method: Method
    epochs: int
    batch_size: int
    optimizer: Sgd | Adam
    learning_rate: float
    schedule: Constant
    seed: int
    validation: float
    early_stopping: EarlyStopping | None
    inputs: Mapping[str, str]
    target: str | None
    loss: str | None
    output: str | None
    clip_norm: float | None
    checkpoint_every_s: float
    checkpoint_every_steps: int | None
    accumulate: int
    nodes: int | None
    verify: bool
    step_timeout_s: float
    trainable: tuple[str, ...] | None


class _Raw(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The plan as it is written; the fields without a default depend on others."""

    method: Method = "sgd"
    epochs: Epochs = 10
    batch_size: Batch = 32
    optimizer: str | dict[str, Any] = "sgd"
    learning_rate: Rate | None = None
    momentum: float | None = None
    schedule: str | dict[str, Any] = "constant"
    seed: Seed = 0
    validation: Fraction = 0.1
    early_stopping: dict[str, Any] | None = None
    inputs: dict[str, str] = {}
    target: str | None = None
    loss: str | None = None
    output: str | None = None
    clip_norm: Rate | None = None
    checkpoint_every_s: Seconds = 30.0
    checkpoint_every_steps: Steps | None = None
    accumulate: Parts = 1
    nodes: Nodes | None = None
    verify: bool = False
    step_timeout_s: Timeout = 60.0
    trainable: Patterns | None = None


def parse_plan(raw: Mapping[str, Any]) -> TrainingPlan:
    """The plan a decoded body describes. Raises `InvalidError` naming the field at fault."""
    given = _convert("plan", raw, _Raw)
    kind, optimizer = _chosen("optimizer", _with_momentum(given), OPTIMIZERS)
    _, schedule = _chosen("schedule", given.schedule, SCHEDULES)
    stopping = given.early_stopping
    early = None if stopping is None else _convert("plan.early_stopping", stopping, EarlyStopping)
    if early is not None and given.validation == 0:
        raise InvalidError(
            f"plan.early_stopping watches {early.metric}, but plan.validation is 0: keep items "
            "back, 0.1 for a tenth"
        )
    if given.loss is not None and given.loss not in LOSSES:
        raise InvalidError(f"plan.loss: {clip(given.loss)} is not known{near(given.loss, LOSSES)}")
    _check_method(given)
    if len(set(given.inputs.values())) != len(given.inputs):
        raise InvalidError(f"plan.inputs feeds one graph input twice: {clip(given.inputs)}")
    fields = {name: getattr(given, name) for name in given.__struct_fields__ if name != "momentum"}
    fields |= {"optimizer": optimizer, "schedule": schedule, "early_stopping": early}
    fields["learning_rate"] = given.learning_rate or _RATES[kind]
    return TrainingPlan(**fields)


def render_plan(plan: TrainingPlan) -> dict[str, Any]:
    """The JSON-like form with every default filled in; `parse_plan` of it is the same plan."""
    fields = {name: getattr(plan, name) for name in plan.__struct_fields__}
    rendered: dict[str, Any] = msgspec.to_builtins(fields)
    rendered["optimizer"]["name"] = _name_of(plan.optimizer, OPTIMIZERS)
    rendered["schedule"]["name"] = _name_of(plan.schedule, SCHEDULES)
    return rendered


def _check_method(given: _Raw) -> None:
    """Refuse what the method would silently ignore."""
    if given.method != "distributed" and (given.nodes is not None or given.verify):
        field = "verify" if given.nodes is None else "nodes"
        raise InvalidError(f"plan.{field} is for the method distributed; this is {given.method}")
    if given.method == "gd" and given.accumulate != 1:
        raise InvalidError("plan.accumulate is for sgd and distributed: gd takes all items a step")


T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


def _with_momentum(given: _Raw) -> str | dict[str, Any]:
    """The optimizer, with the shorthand `momentum` put where it belongs."""
    if given.momentum is None:
        return given.optimizer
    options = given.optimizer if isinstance(given.optimizer, dict) else {"name": given.optimizer}
    if options.get("name", "sgd") != "sgd":
        raise InvalidError(
            f"plan.momentum is for the optimizer sgd; {clip(options.get('name'))} has its own"
        )
    if "momentum" in options:
        raise InvalidError("plan.momentum and plan.optimizer.momentum are both given")
    return options | {"momentum": given.momentum}


def _chosen(field: str, given: str | dict[str, Any], table: Mapping[str, type[S]]) -> tuple[str, S]:
    """The entry of `table` that `given` names, with its options."""
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in table:
        raise InvalidError(f"plan.{field}: {clip(name)} is not known{near(name, table)}")
    return name, _convert(f"plan.{field}", options, table[name])


def _convert(place: str, raw: Any, kind: type[S]) -> S:
    """`raw` as `kind`, with errors that name the field, what was given and what is near."""
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
        raise InvalidError(f"{place} must be an object, got {clip(raw)}")
    for key in raw:
        if key not in kind.__struct_fields__:
            raise InvalidError(
                f"{place} has no field {clip(key)}{near(key, kind.__struct_fields__)}"
            )
    for key, value in raw.items():
        if isinstance(value, float) and not -1e300 < value < 1e300:
            raise InvalidError(f"{place}.{key} must be finite, got {value}")
    try:
        return msgspec.convert(dict(raw), kind, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidError(misfit(error, raw, kind, place)) from error


def _name_of(value: T, table: Mapping[str, type[T]]) -> str:
    return next(name for name, kind in table.items() if type(value) is kind)
