"""Each rule of the registry, and that a refused change leaves nothing behind."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import (
    ConflictError,
    InvalidError,
    InvalidNameError,
    NotFoundError,
    NotReadyError,
    PreconditionError,
    TooLargeError,
)
from aiaas_async.messages import FileEntry, Metadata, TensorSpec
from aiaas_async.names import ModelRef
from aiaas_async.registry.catalog import Catalog, VersionRecord
from aiaas_async.registry.draft import MAX_FILES, Draft
from aiaas_async.registry.labels import check_label
from aiaas_async.registry.records import Traffic
from aiaas_async.registry.rows import digest, encode, exact
from aiaas_async.registry.signature import agreed, fits
from tests.registry.build import IMAGE, LABEL, add_ready, commit, entry, metadata

REF = ModelRef("digits", "1.0")


@pytest.fixture
def draft() -> Draft:
    return Draft(Catalog(), clock=lambda: 1000.0)


@pytest.fixture
def ready(draft: Draft) -> VersionRecord:
    return add_ready(draft)


def test_registering_the_same_again_finds_the_same_record(draft: Draft) -> None:
    first, created = draft.register(metadata(tags=["a"], graph={"layers": [1.5, {"x": None}]}))
    again, created_again = draft.register(
        metadata(tags=["a"], graph={"layers": [1.5, {"x": None}]})
    )
    assert (created, created_again) == (True, False)
    assert again is first
    assert (first.state, first.created_at, first.registered) == (
        "registered",
        1000.0,
        first.metadata,
    )


def test_other_metadata_under_the_same_version_conflicts_and_names_the_fields(draft: Draft) -> None:
    draft.register(metadata())
    with pytest.raises(ConflictError, match=r"outputs, tags differ") as caught:
        draft.register(metadata(outputs=["digit"], tags=["new"]))
    assert caught.value.details["differing"] == ["outputs", "tags"]


def test_after_the_commit_the_same_registration_still_finds_it(
    draft: Draft, ready: VersionRecord
) -> None:
    assert draft.register(metadata()) == (ready, False)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "graph.layers[0].rate: JSON cannot hold nan"),
        (b"bytes", "JSON cannot hold b'bytes'"),
        (2**70, "JSON cannot hold 1180591620717411303424"),
        ({1: 2}, "JSON cannot hold {1: 2}"),
    ],
)
def test_what_a_restart_would_change_is_refused(draft: Draft, value: object, said: str) -> None:
    given = msgspec.structs.replace(metadata(), graph={"layers": [{"rate": value}]})
    with pytest.raises(InvalidError) as caught:
        draft.register(given)
    assert said in caught.value.message


def test_metadata_is_bounded_in_depth_size_and_to_real_text() -> None:
    deep: list[Any] = []
    for _ in range(40):
        deep = [deep]
    with pytest.raises(InvalidError, match="deeper than 32"):
        exact(msgspec.structs.replace(metadata(), graph={"layers": deep}))
    with pytest.raises(TooLargeError, match="at most 1048576"):
        exact(metadata(description="x" * 2**20))
    with pytest.raises(InvalidError, match="surrogate"):
        exact(metadata(description="\ud800"))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc"), json_values, max_size=4))
def test_what_is_accepted_survives_the_disk_unchanged(graph: dict[str, Any]) -> None:
    kept = exact(msgspec.structs.replace(metadata(), graph=graph))
    assert msgspec.json.decode(msgspec.json.encode(kept), type=Metadata) == kept
    assert kept.graph == graph


def test_a_file_takes_the_place_of_the_one_with_its_path(draft: Draft) -> None:
    draft.register(metadata())
    draft.add_file(REF, entry("a", "one"))
    draft.add_file(REF, entry("b", "two"))
    record = draft.add_file(REF, entry("a", "three"))
    assert record.files == (entry("b", "two"), entry("a", "three"))
    assert record.file("b") == entry("b", "two")
    with pytest.raises(NotFoundError, match="there are: a, b"):
        record.file("zzz")


def test_a_version_holds_at_most_a_thousand_files(draft: Draft) -> None:
    draft.register(metadata())
    for number in range(MAX_FILES):
        draft.add_file(REF, entry(f"f{number}"))
    draft.add_file(REF, entry("f0", "again"))
    with pytest.raises(InvalidError, match="1000 files already"):
        draft.add_file(REF, entry("one-more"))


ABSOLUTE_OR_UP = ["/etc/passwd", "../a", "a/../b", ".", "a/./b", "a//b", "a/", "a\\b"]
NO_TEXT = ["", "a\nb", "a\x00b", "a\u202eb", chr(0xD800), "x" * 256]


@pytest.mark.parametrize("label", [*ABSOLUTE_OR_UP, *NO_TEXT])
def test_a_file_path_that_could_lead_elsewhere_is_refused(label: str) -> None:
    with pytest.raises(InvalidNameError, match="is not allowed"):
        check_label(label)


@pytest.mark.parametrize(
    "label", ["a", "weights/part 1.safetensors", "..a/b..", "größe.txt", "x" * 255]
)
def test_a_plain_relative_path_is_a_file_path(label: str) -> None:
    assert check_label(label) == label


def test_a_commit_fills_in_the_signature_and_closes_the_version(
    draft: Draft, ready: VersionRecord
) -> None:
    assert (ready.state, ready.nbytes, ready.committed_at) == ("ready", 100, 1000.0)
    assert ready.metadata.inputs[0].dtype == "float32"
    assert ready.registered.inputs == (TensorSpec("image"),)
    assert commit(draft, REF, nbytes=5) is ready
    for forbidden in (
        lambda: draft.add_file(REF, entry("late")),
        ready.check_open,
    ):
        with pytest.raises(ConflictError, match="immutable: register another version"):
            forbidden()


def test_a_commit_of_files_that_changed_meanwhile_conflicts(draft: Draft) -> None:
    draft.register(metadata())
    seen = draft.add_file(REF, entry("a", "one")).files
    draft.add_file(REF, entry("a", "two"))
    with pytest.raises(ConflictError, match="changed while they were read"):
        draft.commit(REF, (IMAGE,), (LABEL,), 1, seen)


def test_a_commit_without_files_needs_a_graph(draft: Draft) -> None:
    draft.register(metadata())
    with pytest.raises(NotReadyError, match="neither files nor a layer graph"):
        draft.commit(REF, (IMAGE,), (LABEL,), 1, ())
    record = draft.commit(REF, (IMAGE,), (LABEL,), 1, (), graph={"layers": []})
    assert record.metadata.graph == {"layers": []}
    assert record.registered.graph is None


def test_an_artifact_with_other_names_than_registered_is_refused(draft: Draft) -> None:
    draft.register(metadata())
    files = draft.add_file(REF, entry()).files
    with pytest.raises(InvalidError, match=r"registered are \['image'\].* has \['pixels'\]"):
        draft.commit(REF, (TensorSpec("pixels", "uint8", (8,)),), (LABEL,), 1, files)


def spec(dtype: str | None = None, *shape: int) -> TensorSpec:
    return TensorSpec("image", dtype, shape or None)


@pytest.mark.parametrize(
    ("registered", "held", "merged"),
    [
        (spec(), spec("float32", 8, 8), spec("float32", 8, 8)),
        (spec("float32"), spec("float32", 8, 8), spec("float32", 8, 8)),
        (spec("float32", -1, 8), spec("float32", 8, 8), spec("float32", 8, 8)),
        (spec("float32", 8, 8), spec("float32", -1, -1), spec("float32", 8, 8)),
        (spec("float32", 8, -1), spec("float32", -1, -1), spec("float32", 8, -1)),
        (spec("float32", 3), spec(None), spec("float32", 3)),
    ],
)
def test_what_one_side_leaves_open_the_other_fills_in(
    registered: TensorSpec, held: TensorSpec, merged: TensorSpec
) -> None:
    assert agreed("inputs", [registered], [held]) == (merged,)


@pytest.mark.parametrize(
    ("registered", "said"),
    [
        (spec("uint8"), "dtype uint8, but the artifact has float32"),
        (spec("float32", 8, 9), r"shape \[8, 9\], but the artifact has \[8, 8\]"),
        (spec("float32", 8), r"shape \[8\], but"),
    ],
)
def test_a_contradiction_names_the_tensor_and_both_sides(registered: TensorSpec, said: str) -> None:
    with pytest.raises(InvalidError, match=f"image is registered with {said}"):
        agreed("inputs", [registered], [spec("float32", 8, 8)])


def test_names_may_come_in_any_order_and_keep_the_registered_one() -> None:
    registered = [TensorSpec("b"), TensorSpec("a")]
    held = [TensorSpec("a", "bool", ()), TensorSpec("b", "int8", ())]
    assert [s.name for s in agreed("outputs", registered, held)] == ["b", "a"]
    assert fits((-1, 3), (7, 3))
    assert not fits((1, 3), (7, 3))


def test_the_digest_depends_on_files_and_metadata_but_not_on_the_order_of_files() -> None:
    one, two = entry("a", "1"), entry("b", "2")
    base = digest(metadata(), [one, two])
    assert digest(metadata(), [two, one]) == base
    others = {
        digest(metadata(), [one]),
        digest(metadata(description="x"), [one, two]),
        digest(metadata(), [FileEntry("c", one.sha256, 1), two]),
    }
    assert len(others | {base}) == 4


def test_training_registers_and_commits_at_once_with_an_alias(draft: Draft) -> None:
    files = (entry("a"), entry("b", "graph"))
    record = draft.register_committed(metadata(), files, (IMAGE,), (LABEL,), 7)
    draft.set_alias("digits", "champion", "1.0", 0)
    assert (record.state, record.files, record.nbytes) == ("ready", files, 7)
    assert draft.register_committed(metadata(), files[::-1], (IMAGE,), (LABEL,), 7) is record
    with pytest.raises(ConflictError, match="with other files"):
        draft.register_committed(metadata(), files[:1], (IMAGE,), (LABEL,), 7)
    assert draft.catalog().version("digits", "champion") is record


def test_a_damaged_version_stays_corrupt_until_it_is_deleted(
    draft: Draft, ready: VersionRecord
) -> None:
    record = draft.mark_corrupt(REF, "file a is missing")
    assert (record.state, record.reason) == ("corrupt", "file a is missing")
    assert draft.mark_corrupt(REF, "another reason") is record
    assert commit(draft, REF) is record
    draft.delete_version(REF)
    assert add_ready(draft).state == "ready"


def test_only_a_committed_version_can_become_corrupt(draft: Draft) -> None:
    draft.register(metadata())
    with pytest.raises(ConflictError, match="registered and cannot become corrupt"):
        draft.mark_corrupt(REF, "why")


def test_an_alias_moves_and_its_revision_grows(draft: Draft) -> None:
    add_ready(draft, version="1.0")
    add_ready(draft, version="2.0")
    assert draft.set_alias("digits", "champion", "1.0").revision == 1
    assert draft.set_alias("digits", "champion", "1.0", 1).revision == 1
    assert draft.set_alias("digits", "champion", "2.0", 1).revision == 2


def test_compare_and_set_loses_against_whoever_was_faster(
    draft: Draft, ready: VersionRecord
) -> None:
    add_ready(draft, version="2.0")
    with pytest.raises(PreconditionError, match="does not exist"):
        draft.set_alias("digits", "champion", "1.0", 1)
    draft.set_alias("digits", "champion", "1.0", 0)
    with pytest.raises(PreconditionError, match="is at revision 1") as caught:
        draft.set_alias("digits", "champion", "2.0", 0)
    assert caught.value.details == {"revision": 1, "expected": 0}


def test_a_revision_is_never_used_again_even_when_the_alias_was_deleted_between(
    draft: Draft, ready: VersionRecord
) -> None:
    add_ready(draft, version="2.0")
    seen = draft.set_alias("digits", "champion", "1.0").revision
    draft.delete_alias("digits", "champion")
    draft.set_alias("digits", "champion", "2.0", 0)
    with pytest.raises(PreconditionError):
        draft.set_alias("digits", "champion", "1.0", seen)


@pytest.mark.parametrize(
    ("alias", "version", "error", "said"),
    [
        ("latest", "1.0", ConflictError, "is computed"),
        ("1.0", "1.0", ConflictError, "is a version of this model"),
        ("Bad Name", "1.0", InvalidNameError, "alias 'Bad Name' is not allowed"),
        ("champion", "9.9", NotFoundError, "no version '9.9'"),
        ("champion", "latest", NotFoundError, "no version 'latest'"),
    ],
)
def test_an_alias_must_be_a_free_name_for_an_existing_version(
    draft: Draft, ready: VersionRecord, alias: str, version: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        draft.set_alias("digits", alias, version)


@pytest.mark.parametrize(
    ("version", "traffic"),
    [
        ("2.0", Traffic()),
        ("1.0", Traffic(canary="2.0", weight=0.1)),
        ("1.0", Traffic(shadow="2.0")),
    ],
)
def test_no_calls_are_sent_to_a_version_that_is_not_ready(
    draft: Draft, ready: VersionRecord, version: str, traffic: Traffic
) -> None:
    draft.register(metadata(version="2.0"))
    said = "digits:2.0 is registered, not ready: commit its files first"
    with pytest.raises(ConflictError, match=said) as caught:
        draft.set_alias("digits", "champion", version, traffic=traffic)
    assert caught.value.details == {"version": "2.0", "state": "registered"}
    add_ready(draft, version="3.0")
    draft.mark_corrupt(ModelRef("digits", "3.0"), "rot")
    with pytest.raises(ConflictError, match="is corrupt, not ready: delete it and commit"):
        draft.set_alias("digits", "champion", "3.0")


@pytest.mark.parametrize(
    ("traffic", "said"),
    [
        (Traffic(canary="1.0", weight=0.5), "the canary '1.0' is the alias's own version"),
        (Traffic(shadow="1.0"), "the shadow '1.0' is the alias's own version"),
        (Traffic(weight=0.5), "weight 0.5 is a canary's share of the calls, and there is no"),
        (Traffic(weight=0.5, shadow="2.0"), "there is no canary"),
    ],
)
def test_a_share_of_calls_that_contradicts_itself_is_refused(
    draft: Draft, ready: VersionRecord, traffic: Traffic, said: str
) -> None:
    add_ready(draft, version="2.0")
    with pytest.raises(InvalidError, match=said):
        draft.set_alias("digits", "champion", "1.0", traffic=traffic)


def test_an_alias_at_a_version_that_was_damaged_since_can_be_put_again_but_not_changed(
    draft: Draft, ready: VersionRecord
) -> None:
    first = draft.set_alias("digits", "champion", "1.0")
    draft.mark_corrupt(REF, "rot")
    assert draft.set_alias("digits", "champion", "1.0") == first
    add_ready(draft, version="2.0")
    assert draft.set_alias("digits", "champion", "2.0").previous == ("1.0",)


def test_a_version_cannot_take_the_name_of_an_alias(draft: Draft, ready: VersionRecord) -> None:
    draft.set_alias("digits", "2.0", "1.0")
    with pytest.raises(ConflictError, match=r"'2.0' is an alias of digits"):
        draft.register(metadata(version="2.0"))


def test_a_version_an_alias_points_at_cannot_be_deleted(draft: Draft, ready: VersionRecord) -> None:
    draft.set_alias("digits", "champion", "1.0")
    with pytest.raises(ConflictError, match=r"alias champion points at digits:1.0"):
        draft.delete_version(REF)
    draft.delete_alias("digits", "champion")
    draft.delete_version(REF)
    assert len(draft.catalog()) == 0


def test_deleting_what_is_not_there_is_not_found(draft: Draft, ready: VersionRecord) -> None:
    with pytest.raises(NotFoundError):
        draft.delete_model("nope")
    with pytest.raises(NotFoundError):
        draft.delete_version(ModelRef("digits", "2.0"))
    with pytest.raises(NotFoundError):
        draft.delete_alias("digits", "nope")


def test_a_refused_change_leaves_no_trace(draft: Draft, ready: VersionRecord) -> None:
    fork = draft.fork()
    fork.register(metadata("other"))
    fork.delete_model("digits")
    assert draft.catalog().names() == ("digits",)
    assert ("versions", "other", "1.0") not in draft.writes
    draft.absorb(fork)
    assert draft.catalog().names() == ("other",)
    assert draft.writes["versions", "digits", "1.0"] is None


def test_jobs_are_kept_as_they_come(draft: Draft) -> None:
    draft.save_job("j1", b"{}")
    draft.delete_job("j2")
    assert draft.writes == {("jobs", "j1"): b"{}", ("jobs", "j2"): None}
    assert len(draft.catalog()) == 0


@pytest.mark.parametrize("same", ["1.0.0", "1", "v1.0", "1.0.0.0"])
def test_a_version_that_a_specifier_could_not_tell_from_another_is_refused(
    draft: Draft, same: str
) -> None:
    draft.register(metadata())
    with pytest.raises(ConflictError, match=r"means the same version as digits:1\.0") as caught:
        draft.register(metadata(version=same))
    assert caught.value.details == {"known": "1.0"}
    assert list(draft.model("digits").versions) == ["1.0"]


@pytest.mark.parametrize("other", ["1.0.1", "1.0+local", "1.0rc1", "1.0-final", "beta"])
def test_a_version_that_differs_to_a_specifier_is_taken(draft: Draft, other: str) -> None:
    draft.register(metadata())
    draft.register(metadata(version=other))
    assert set(draft.model("digits").versions) == {"1.0", other}


def test_a_candidate_is_latest_again_once_it_is_released(draft: Draft) -> None:
    for version in ("1.0", "2.0", "2.1"):
        add_ready(draft, version=version)
    draft.hold_back(ModelRef("digits", "2.0"), "best", "loss is 2")
    draft.hold_back(ModelRef("digits", "2.1"), "best", "loss is 3")
    model = draft.model("digits")
    assert model.resolve("latest").ref.version == "1.0"
    assert model.resolve("==2.1").ref.version == "2.1"
    with pytest.raises(
        NotFoundError, match=r"no version for '>=2' but the candidate 2\.1: loss is 3"
    ):
        model.resolve(">=2")
    draft.release(ModelRef("digits", "2.1"))
    assert draft.model("digits").resolve(">=2").ref.version == "2.1"
    draft.set_alias("digits", "best", "2.0")
    assert draft.version(ModelRef("digits", "2.0")).candidate is None


def test_only_the_alias_it_was_refused_makes_a_candidate_a_version_like_any_other(
    draft: Draft, ready: VersionRecord
) -> None:
    held = draft.hold_back(REF, "best", "loss is 2")
    draft.set_alias("digits", "trial", "1.0")
    assert draft.version(REF) == held
    assert held.digest == ready.digest


def test_a_record_of_a_release_that_knew_no_candidates_is_read(ready: VersionRecord) -> None:
    row = msgspec.json.decode(encode(ready))
    del row["candidate"]
    assert msgspec.convert(row, VersionRecord) == ready
