"""The catalogue resolves names and versions, and never changes under its reader."""

from collections.abc import Callable

import pytest

from aiaas_async.errors import InvalidError, NotFoundError
from aiaas_async.names import ModelRef
from aiaas_async.registry.catalog import Catalog
from aiaas_async.registry.draft import Draft
from tests.registry.build import add_ready, entry, metadata


def catalog_of(change: Callable[[Draft], object], base: Catalog | None = None) -> Catalog:
    draft = Draft(base or Catalog())
    change(draft)
    return draft.catalog()


def many(draft: Draft) -> None:
    for version in ("1.0", "1.9", "2.0rc1"):
        add_ready(draft, "digits", version)
    draft.register(metadata("digits", "3.0"))
    draft.register(metadata("digits", ">=odd"))
    draft.set_alias("digits", "champion", "1.0")
    add_ready(draft, "letters", "0.1")


@pytest.fixture
def catalog() -> Catalog:
    return catalog_of(many)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("1.9", "1.9"),
        ("champion", "1.0"),
        ("latest", "1.9"),
        (">=1.0", "1.9"),
        ("<1.5", "1.0"),
        (">=2.0rc1", "2.0rc1"),
        (">2.0", "3.0"),
        ("==1.0.0", "1.0"),
        (">=odd", ">=odd"),
    ],
)
def test_a_version_is_found_by_string_alias_latest_or_specifier(
    catalog: Catalog, asked: str, found: str
) -> None:
    assert catalog.version("digits", asked).ref.version == found


def test_latest_is_the_highest_registered_one_while_none_is_ready() -> None:
    def change(draft: Draft) -> None:
        for version in ("1.0", "2.0", "3.0rc1"):
            draft.register(metadata("m", version))

    assert catalog_of(change).latest("m") == "2.0"


def test_a_corrupt_version_is_latest_only_where_nothing_else_is() -> None:
    def change(draft: Draft) -> None:
        add_ready(draft, "m", "1.0")
        record = add_ready(draft, "m", "2.0")
        draft.mark_corrupt(record.ref, "file x is missing")

    catalog = catalog_of(change)
    assert catalog.latest("m") == "1.0"
    assert catalog.version("m", "2.0").state == "corrupt"
    only = catalog_of(lambda draft: draft.delete_version(ModelRef("m", "1.0")), catalog)
    assert only.latest("m") == "2.0"


def test_versions_are_listed_newest_last(catalog: Catalog) -> None:
    listed = [record.ref.version for record in catalog.model("digits").ordered()]
    assert listed == [">=odd", "1.0", "1.9", "2.0rc1", "3.0"]


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("digit", "1.0", "no model is called 'digit'; did you mean digits?"),
        ("zzz", "1.0", "there are: digits, letters"),
        ("digits", "1.99", "no version or alias '1.99'; did you mean 1.9"),
        ("digits", "champoin", "did you mean champion?"),
        ("digits", ">=99", "no version that satisfies '>=99'"),
        ("letters", "??", "there are: 0.1"),
    ],
)
def test_what_is_not_found_is_answered_with_what_may_have_been_meant(
    catalog: Catalog, name: str, version: str, said: str
) -> None:
    with pytest.raises(NotFoundError) as caught:
        catalog.version(name, version)
    assert said in caught.value.message


def test_an_empty_catalogue_says_how_to_register() -> None:
    with pytest.raises(NotFoundError, match="POST /register"):
        Catalog().model("digits")
    assert repr(Catalog()) == "<Catalog of 0 models>"


def test_a_broken_specifier_is_invalid_rather_than_not_found(catalog: Catalog) -> None:
    with pytest.raises(InvalidError, match="no version specifier"):
        catalog.version("digits", ">=x")


def test_long_lists_are_cut_in_messages() -> None:
    def change(draft: Draft) -> None:
        for n in range(30):
            draft.register(metadata(f"model-{n:02}"))

    with pytest.raises(NotFoundError, match="model-07 and 22 more"):
        catalog_of(change).model("zzz")


def test_a_near_miss_is_found_among_many_names() -> None:
    def change(draft: Draft) -> None:
        for n in range(2000):
            draft.register(metadata(f"model-{n:04}"))

    with pytest.raises(NotFoundError, match=r"did you mean .*model-1234"):
        catalog_of(change).model("model-12345")


def test_a_reader_keeps_the_catalogue_it_holds(catalog: Catalog) -> None:
    def change(draft: Draft) -> None:
        draft.delete_model("letters")
        draft.set_alias("digits", "champion", "1.9")
        add_ready(draft, "fresh")

    after = catalog_of(change, catalog)
    assert (catalog.names(), after.names()) == (("digits", "letters"), ("digits", "fresh"))
    assert catalog.alias("digits", "champion").version == "1.0"
    assert after.alias("digits", "champion").version == "1.9"
    assert after.version("digits", "1.9") is catalog.version("digits", "1.9")


def test_digests_are_those_of_every_version(catalog: Catalog) -> None:
    assert catalog.digests() == {entry().sha256}
    assert Catalog().digests() == set()


def test_the_input_index_follows_every_change_of_a_latest_version(catalog: Catalog) -> None:
    image, both = frozenset({"image"}), frozenset({"image", "mask"})
    assert [r.ref for r in catalog.taking(image)] == [("digits", "1.9"), ("letters", "0.1")]
    assert catalog.taking(both) == []
    second = catalog_of(
        lambda draft: add_ready(draft, "digits", "4.0", inputs=["mask", "image"]), catalog
    )
    assert [r.ref for r in second.taking(both)] == [("digits", "4.0")]
    assert [r.ref for r in second.taking(image)] == [("letters", "0.1")]
    third = catalog_of(lambda draft: draft.delete_model("digits"), second)
    assert third.taking(both) == []
    assert third.index == Catalog({"letters": third.model("letters")}).index
    assert Catalog().taking(frozenset()) == []
