"""Assignment: which node gets a task. Small policies over the loads of the nodes there are.

`loads` maps each node to the work that waits for it, in any one unit; it is never empty.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from aiaas_async.errors import InvalidError
from aiaas_async.names import clip

Loads = Mapping[str, float]


class Assignable(Protocol):
    """`home` is the node that holds the task's items; `key` names the task for good."""

    @property
    def home(self) -> str: ...
    @property
    def key(self) -> str: ...


class Assignment(Protocol):
    def choose(self, task: Assignable, loads: Loads) -> str:
        """A node of `loads`."""


@dataclass(frozen=True, slots=True)
class LeastLoaded:
    """The node with the least work; the first by name among equals."""

    def choose(self, task: Assignable, loads: Loads) -> str:  # noqa: ARG002 - a port's signature
        return min(loads, key=lambda node: (loads[node], node))


@dataclass(frozen=True, slots=True)
class DataLocal:
    """The node that holds the items; the least loaded one when it has left."""

    def choose(self, task: Assignable, loads: Loads) -> str:
        return task.home if task.home in loads else LeastLoaded().choose(task, loads)


@dataclass(frozen=True, slots=True)
class Hashed:
    """Where the ring puts the task's key: the same node again as long as the ring stays."""

    owner: Callable[[str], str]

    def choose(self, task: Assignable, loads: Loads) -> str:
        node = self.owner(task.key)
        return node if node in loads else LeastLoaded().choose(task, loads)


class RoundRobin:
    """One node after the other, in the order of their names."""

    def __init__(self) -> None:
        self._last = ""

    def choose(self, task: Assignable, loads: Loads) -> str:  # noqa: ARG002 - a port's signature
        nodes = sorted(loads)
        self._last = next((node for node in nodes if node > self._last), nodes[0])
        return self._last


class PowerOfTwo:
    """The less loaded of two nodes drawn at random (Mitzenmacher 2001): nearly as even as asking
    all of them, for two questions."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret

    def choose(self, task: Assignable, loads: Loads) -> str:  # noqa: ARG002 - a port's signature
        nodes = sorted(loads)
        drawn = self._random.sample(nodes, min(2, len(nodes)))
        return min(drawn, key=lambda node: loads[node])


ASSIGNMENTS: Final = ("data_local", "hash", "round_robin", "least_loaded", "power_of_two")


def make_assignment(name: str, owner: Callable[[str], str], seed: int = 0) -> Assignment:
    """The policy `name`; `owner` is the ring's. Raises `InvalidError` for one nobody knows."""
    match name:
        case "data_local":
            return DataLocal()
        case "hash":
            return Hashed(owner)
        case "round_robin":
            return RoundRobin()
        case "least_loaded":
            return LeastLoaded()
        case "power_of_two":
            return PowerOfTwo(seed)
    known = ", ".join(ASSIGNMENTS)
    raise InvalidError(f"no assignment is called {clip(name)}; known: {known}")
