"""Which route takes a request, by its method and path alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.http.routing import ANY, Router

ROUTES = [
    ("GET", "/models", "list"),
    ("GET", "/models/{name}", "show"),
    ("DELETE", "/models/{name}", "delete"),
    ("GET", "/models/stats", "stats"),
    ("PUT", "/models/{name}/files/{path:.*}", "put"),
    ("POST", "/models/{name}/infer", "infer"),
    (ANY, "/v2/{path:.*}", "v2"),
    (ANY, "/{path:.*}", "nothing"),
]


@pytest.fixture
def router() -> Router[str]:
    return Router(ROUTES)


@pytest.mark.parametrize(
    ("method", "path", "handler", "parameters"),
    [
        ("GET", "/models", "list", {}),
        ("GET", "/models/m", "show", {"name": "m"}),
        ("DELETE", "/models/m", "delete", {"name": "m"}),
        ("GET", "/models/stats", "stats", {}),
        ("DELETE", "/models/stats", "delete", {"name": "stats"}),
        ("POST", "/models/m/infer", "infer", {"name": "m"}),
        ("PUT", "/models/m/files/a/b.bin", "put", {"name": "m", "path": "a/b.bin"}),
        ("PUT", "/models/m/files/", "put", {"name": "m", "path": ""}),
        ("GET", "/models/", "nothing", {"path": "models/"}),
        ("GET", "//models", "nothing", {"path": "/models"}),
        ("GET", "/v2/x", "v2", {"path": "x"}),
        ("GET", "/", "nothing", {"path": ""}),
    ],
)
def test_the_most_literal_pattern_that_knows_the_method_wins(
    router: Router[str], method: str, path: str, handler: str, parameters: dict[str, str]
) -> None:
    found = router.find(method, path)
    assert (found.handler, dict(found.parameters)) == (handler, parameters)


def test_a_segment_is_decoded_once_and_after_the_cut(router: Router[str]) -> None:
    assert router.find("GET", "/models/a%2Fb%252e").parameters == {"name": "a/b%2e"}
    assert router.find("GET", "/%6dodels").handler == "list"
    assert router.find("GET", "/models/..").parameters == {"name": ".."}


def test_what_no_method_takes_goes_to_the_general_route_with_those_that_would(
    router: Router[str],
) -> None:
    found = router.find("PATCH", "/models/stats")
    assert (found.handler, found.allowed) == ("nothing", ("DELETE", "GET"))


def test_a_path_met_before_is_answered_alike(router: Router[str]) -> None:
    first = router.find("GET", "/models/m")
    assert router.find("GET", "/models/m") is first


def test_only_so_many_paths_are_remembered_and_no_long_ones(router: Router[str]) -> None:
    for number in range(10_000):
        router.find("GET", f"/models/{number}")
    router.find("GET", "/models/" + "m" * 1000)
    assert len(router._known) <= 4096
    assert max(len(path) for _, path in router._known) <= 256


def test_without_a_general_route_what_fits_nothing_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match="no route takes GET /b"):
        Router([("GET", "/a", "a")]).find("GET", "/b")


@given(st.lists(st.text(alphabet="ab%/.2F", max_size=6), max_size=5))
def test_any_path_finds_the_same_route_twice(parts: list[str]) -> None:
    router, path = Router(ROUTES), "/" + "/".join(parts)
    assert router.find("GET", path) == Router(ROUTES).find("GET", path) == router.find("GET", path)
