"""Routing: a request's path, cut at its slashes and decoded once, walks a tree of the routes.

Pure: no request is needed. aiohttp's router tries one regular expression after the other for a
path with a name in it (12 us for `/v2/models/{name}/infer`); here paths met before are one
look-up. A segment is decoded after the cut, so an encoded slash is part of a name, which no name
allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import unquote

H = TypeVar("H")

ANY: Final = "*"
_KNOWN_PATHS, _KNOWN_LENGTH = 4096, 256


class Found(NamedTuple, Generic[H]):
    """`parameters` by name, decoded; `allowed`: the methods of the path, when `handler` is a
    route for any method, which takes what the others leave."""

    handler: H
    pattern: str
    parameters: Mapping[str, str]
    allowed: tuple[str, ...] = ()


@dataclass(slots=True)
class _Branch(Generic[H]):
    """What may follow a path's beginning: a literal segment, any one segment, or all the rest."""

    literals: dict[str, _Branch[H]] = field(default_factory=dict)
    segment: tuple[str, _Branch[H]] | None = None
    rest: tuple[str, _Branch[H]] | None = None
    methods: dict[str, tuple[H, str]] = field(default_factory=dict)


class Router(Generic[H]):
    """Routes are (method, pattern, handler). In a pattern `{name}` takes one segment that is not
    empty, `{name:.*}` at the end all that are left, be they empty. The most literal pattern wins;
    with the method "*" it takes what no pattern with the request's own method does."""

    def __init__(self, routes: Iterable[tuple[str, str, H]]) -> None:
        self.routes: Final = tuple(routes)
        self._root: _Branch[H] = _Branch()
        self._known: dict[tuple[str, str], Found[H]] = {}
        for method, pattern, handler in self.routes:
            self._branch_for(pattern).methods[method] = (handler, pattern)

    def _branch_for(self, pattern: str) -> _Branch[H]:
        branch = self._root
        for part in pattern.split("/")[1:]:
            if not part.startswith("{"):
                branch = branch.literals.setdefault(part, _Branch())
                continue
            name, _, greedy = part[1:-1].partition(":")
            known = branch.rest if greedy else branch.segment
            if known is None:
                known = (name, _Branch())
                if greedy:
                    branch.rest = known
                else:
                    branch.segment = known
            branch = known[1]
        return branch

    def find(self, method: str, path: str) -> Found[H]:
        """The route for a percent-encoded `path` without its query. Raises `LookupError` when no
        pattern fits."""
        known = self._known.get((method, path))
        if known is not None:
            return known
        found = self._search(method, [unquote(part) for part in path.split("/")[1:]])
        if len(path) <= _KNOWN_LENGTH:
            if len(self._known) >= _KNOWN_PATHS:
                self._known.clear()
            self._known[method, path] = found
        return found

    def _search(self, method: str, parts: list[str]) -> Found[H]:
        ends = list(_walk(self._root, parts, {}))
        allowed = []
        for branch, parameters in ends:
            if (own := branch.methods.get(method)) is not None:
                return Found(*own, parameters)
            allowed += [name for name in branch.methods if name != ANY]
        for branch, parameters in ends:
            if (general := branch.methods.get(ANY)) is not None:
                return Found(*general, parameters, tuple(sorted(set(allowed))))
        raise LookupError(f"no route takes {method} /{'/'.join(parts)}")


def _walk(
    branch: _Branch[H], parts: list[str], met: Mapping[str, str]
) -> Iterable[tuple[_Branch[H], Mapping[str, str]]]:
    """Every branch that `parts` lead to, the most literal first, with the parameters on its way."""
    if not parts:
        if branch.methods:
            yield branch, met
        return
    head, tail = parts[0], parts[1:]
    if (literal := branch.literals.get(head)) is not None:
        yield from _walk(literal, tail, met)
    if branch.segment is not None and head:
        name, following = branch.segment
        yield from _walk(following, tail, {**met, name: head})
    if branch.rest is not None:
        name, last = branch.rest
        yield last, {**met, name: "/".join(parts)}
