"""Discovery ranks what fits, and says of the rest why it does not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.discovery.match import by_inputs, match
from aiaas_async.discovery.query import Query
from aiaas_async.errors import NoMatchError
from aiaas_async.names import ModelRef
from aiaas_async.registry.catalog import Catalog
from aiaas_async.registry.draft import Draft
from tests.registry.build import add_ready, metadata


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    draft = Draft(Catalog())
    vision: dict[str, Any] = {"tags": ["vision", "small"], "resources": {"cpu": 2, "memory": 1}}
    add_ready(draft, "digits", "1.0", metrics={"accuracy": 0.90, "loss": 0.5}, **vision)
    add_ready(draft, "digits", "1.5", metrics={"accuracy": 0.95, "loss": 0.3}, **vision)
    add_ready(draft, "digits", "2.0rc1", metrics={"accuracy": 0.99, "loss": 0.1}, **vision)
    draft.register(metadata("digits", "3.0", tags=["vision"]))
    draft.set_alias("digits", "champion", "1.0")
    add_ready(draft, "segments", "1.0", inputs=["image", "mask"], outputs=["area"])
    typed = [{"name": "text", "dtype": "string", "shape": [-1]}]
    add_ready(draft, "words", "1.0", inputs=typed, runtime="onnx", resources={"memory": 8})
    draft.register(metadata("plans", "0.1", inputs=["plan"]))
    rotten = add_ready(draft, "rotten", "1.0", inputs=["fruit"])
    draft.mark_corrupt(rotten.ref, "file weights is missing")
    return draft.catalog()


def found(catalog: Catalog, **query: Any) -> list[str]:
    return [str(m.record.ref) for m in match(catalog, Query.parse(query)).ranked]


def test_what_a_version_does_not_have_is_said_to_be_none(catalog: Catalog) -> None:
    with pytest.raises(NoMatchError, match=r"metrics.f1: asked >=0.5, has none but accuracy"):
        match(catalog, Query.parse({"name": "digits", "metrics": {"f1": 0.5}}))


def failed(catalog: Catalog, **query: Any) -> list[tuple[str, list[tuple[str, Any, Any]]]]:
    with pytest.raises(NoMatchError) as caught:
        match(catalog, Query.parse(query))
    return [
        (
            f"{miss['name']}:{miss['version']}",
            [(f["field"], f["asked"], f["has"]) for f in miss["failed"]],
        )
        for miss in caught.value.details["near_misses"]
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"name": "digits"}, ["digits:1.5", "digits:1.0", "digits:2.0rc1", "digits:3.0"]),
        ({"name": "digits", "version": "1.0"}, ["digits:1.0"]),
        ({"name": "digits", "version": ">=1.0,<2"}, ["digits:1.5", "digits:1.0"]),
        ({"name": "digits", "version": "latest"}, ["digits:1.5"]),
        ({"name": "digits", "alias": "champion"}, ["digits:1.0"]),
        ({"alias": "champion"}, ["digits:1.0"]),
        ({"name": "digits", "state": "registered"}, ["digits:3.0"]),
        ({"inputs": ["image", "mask"]}, ["segments:1.0"]),
        ({"inputs": ["text"], "outputs": ["label"]}, ["words:1.0"]),
        ({"inputs": [{"name": "text", "dtype": "string", "shape": [12]}]}, ["words:1.0"]),
        ({"outputs": ["area"]}, ["segments:1.0"]),
        ({"runtime": "onnx"}, ["words:1.0"]),
        ({"tags": ["small", "vision"], "state": "ready", "limit": 1}, ["digits:1.5"]),
        ({"metrics": {"accuracy": ">0.95"}}, ["digits:2.0rc1"]),
        ({"metrics": {"accuracy": 0.95, "loss": "<=0.3"}}, ["digits:1.5", "digits:2.0rc1"]),
        ({"state": "corrupt"}, ["rotten:1.0"]),
        ({"inputs": ["text"], "resources": {"memory": 8}}, ["words:1.0"]),
    ],
)
def test_versions_are_found_by_every_field_and_ranked(
    catalog: Catalog, query: dict[str, Any], expected: list[str]
) -> None:
    assert found(catalog, **query) == expected


def test_a_model_that_takes_just_what_is_asked_ranks_above_one_that_needs_more(
    catalog: Catalog,
) -> None:
    refs = found(catalog, inputs=["image"], state="ready")
    assert refs[0] == "digits:1.5"
    assert refs.index("segments:1.0") > refs.index("digits:1.0")


def test_the_tighter_fit_of_resources_ranks_first(catalog: Catalog) -> None:
    assert (
        found(catalog, resources={"memory": 8}, outputs=["label"], state="ready")[0] == "words:1.0"
    )


def test_the_limit_bounds_the_list_and_the_total_counts_all(catalog: Catalog) -> None:
    matches = match(catalog, Query.parse({"name": "digits", "limit": 2}))
    assert (len(matches.ranked), matches.total) == (2, 4)


@pytest.mark.parametrize(
    ("query", "version", "reasons"),
    [
        ({"name": "digits", "version": ">=9"}, "1.5", [("version", ">=9", "1.5")]),
        ({"name": "digits", "alias": "canary"}, "1.5", [("alias", "canary", [])]),
        ({"name": "words", "inputs": ["image"]}, "1.0", [("inputs", ["image"], ["text"])]),
        ({"name": "words", "outputs": ["x"]}, "1.0", [("outputs", ["x"], ["label"])]),
        (
            {"name": "words", "inputs": [{"name": "text", "dtype": "int64", "shape": [1, 2]}]},
            "1.0",
            [("inputs.text.dtype", "int64", "string"), ("inputs.text.shape", [1, 2], [-1])],
        ),
        (
            {"name": "plans", "inputs": [{"name": "plan", "dtype": "float32", "shape": []}]},
            "0.1",
            [("inputs.plan.dtype", "float32", None), ("inputs.plan.shape", [], None)],
        ),
        (
            {"name": "words", "resources": {"memory": 4, "cpu": 1}},
            "1.0",
            [("resources.memory", "<=4", 8.0)],
        ),
        ({"name": "words", "tags": ["new"]}, "1.0", [("tags", ["new"], [])]),
        (
            {"name": "words", "metrics": {"accuracy": ">=0.9"}},
            "1.0",
            [("metrics.accuracy", ">=0.9", None)],
        ),
        ({"name": "words", "runtime": "numpy"}, "1.0", [("runtime", "numpy", "onnx")]),
        ({"name": "words", "state": "registered"}, "1.0", [("state", "registered", "ready")]),
        (
            {"name": "rotten"},
            "1.0",
            [("state", "ready or registered", "corrupt: file weights is missing")],
        ),
    ],
)
def test_a_near_miss_names_each_condition_it_failed(
    catalog: Catalog, query: dict[str, Any], version: str, reasons: list[Any]
) -> None:
    misses = failed(catalog, **query)
    assert misses[0] == (f"{query['name']}:{version}", reasons)


def test_the_nearest_miss_comes_first_and_there_are_at_most_ten(catalog: Catalog) -> None:
    misses = failed(catalog, inputs=["image"], outputs=["label"], metrics={"accuracy": ">=0.999"})
    assert misses[0] == ("digits:1.5", [("metrics.accuracy", ">=0.999", 0.95)])
    assert [len(reasons) for _, reasons in misses] == sorted(len(r) for _, r in misses)
    draft = Draft(Catalog())
    for number in range(30):
        draft.register(metadata("m", str(number)))
    assert len(failed(draft.catalog(), name="m", tags=["x"])) == 10


def test_an_unknown_name_shows_what_may_have_been_meant(catalog: Catalog) -> None:
    misses = failed(catalog, name="digit", version="1.0")
    assert ("digits:1.0", [("name", "digit", "digits")]) in misses
    with pytest.raises(NoMatchError, match=r"no model is called 'digit'; did you mean digits\?"):
        found(catalog, name="digit")
    assert failed(catalog, name="zzzz") == []


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(NoMatchError, match="none is registered yet"):
        found(Catalog())
    with pytest.raises(NoMatchError, match="none is registered yet"):
        by_inputs(Catalog(), ["image"])


@given(
    query=st.fixed_dictionaries(
        {},
        optional={
            "name": st.just("digits"),
            "version": st.sampled_from([">=1", "<3", "latest"]),
            "inputs": st.just(["image"]),
            "resources": st.dictionaries(st.sampled_from(["cpu", "memory"]), st.floats(0, 99)),
            "metrics": st.dictionaries(
                st.sampled_from(["accuracy", "loss"]), st.sampled_from([">0", "<1", 0.2, "!=0.3"])
            ),
            "tags": st.sampled_from([["vision"], []]),
        },
    )
)
def test_scores_lie_between_0_and_1_and_every_version_matches_or_fails(
    catalog: Catalog, query: dict[str, Any]
) -> None:
    try:
        matches = match(catalog, Query.parse(query))
    except NoMatchError as error:
        matches, misses = None, error.details["near_misses"]
    if matches is None:
        assert all(miss["failed"] for miss in misses)
        return
    ranked = [m.score for m in matches.ranked]
    assert ranked == sorted(ranked, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in ranked)
    assert match(catalog, Query.parse(query)) == matches


def test_the_only_thing_asked_for_and_ready_scores_1(catalog: Catalog) -> None:
    query = Query.parse({"name": "words", "inputs": ["text"], "resources": {"memory": 8}})
    assert match(catalog, query).ranked[0].score == 1.0


def refs(catalog: Catalog, *names: str) -> list[ModelRef]:
    return [record.ref for record in by_inputs(catalog, names)]


def test_a_call_with_just_inputs_finds_the_latest_version_that_takes_exactly_them(
    catalog: Catalog,
) -> None:
    assert refs(catalog, "image") == [("digits", "1.5")]
    assert refs(catalog, "mask", "image") == [("segments", "1.0")]


def test_a_version_that_cannot_serve_yet_is_found_when_no_other_can(catalog: Catalog) -> None:
    assert [r.state for r in by_inputs(catalog, {"plan": 1}.keys())] == ["registered"]
    assert [r.state for r in by_inputs(catalog, ["fruit"])] == ["corrupt"]
    draft = Draft(catalog)
    add_ready(draft, "plans-two", "1.0", inputs=["plan"])
    assert refs(draft.catalog(), "plan") == [("plans-two", "1.0")]


def test_several_models_with_the_same_inputs_are_all_found(catalog: Catalog) -> None:
    draft = Draft(catalog)
    add_ready(draft, "numbers", "1.0")
    assert refs(draft.catalog(), "image") == [("digits", "1.5"), ("numbers", "1.0")]


def test_inputs_that_no_model_takes_are_answered_with_those_that_are_taken(
    catalog: Catalog,
) -> None:
    with pytest.raises(NoMatchError, match=r"\['image', 'mask'\] \(segments\)") as caught:
        by_inputs(catalog, ["image", "mask", "extra"])
    nearest = caught.value.details["near_misses"][0]
    assert nearest == {"inputs": ["image", "mask"], "models": ["segments"]}
    with pytest.raises(NoMatchError, match="exactly the inputs"):
        by_inputs(catalog, [])


def test_of_versions_alike_the_better_metric_ranks_first_whichever_way_is_better() -> None:
    draft = Draft(Catalog())
    add_ready(draft, "a", metrics={"accuracy": 0.5, "loss": 0.9})
    add_ready(draft, "b", metrics={"accuracy": 0.9, "loss": 0.1})
    for bounds in ({"accuracy": 0.1}, {"loss": "<1"}, {"accuracy": ">0", "loss": "<=1"}):
        assert found(draft.catalog(), metrics=bounds) == ["b:1.0", "a:1.0"]
