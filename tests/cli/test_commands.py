"""The command line against a real server: the README's tasks, and what a user gets wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from aiaas_async.cli.main import main
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.testing import server

pytestmark = pytest.mark.real

Run = Callable[..., Result]
GRAPH = {
    "inputs": [{"name": "points", "dtype": "float32", "shape": [2]}],
    "layers": [
        {"name": "hidden", "op": "dense", "units": 16},
        {"name": "active", "op": "tanh"},
        {"name": "logits", "op": "dense", "units": 2},
        {"name": "where", "op": "argmax", "labels": ["outside", "inside"]},
    ],
    "outputs": ["where", "logits"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a model, and of a data set it can learn."""
    found = tmp_path_factory.mktemp("cli")
    (found / "shapes").mkdir()
    (found / "shapes" / "graph.json").write_text(json.dumps(GRAPH))
    rng = np.random.default_rng(0)
    shapes = {"hidden.weight": (2, 16), "hidden.bias": (16,)}
    shapes |= {"logits.weight": (16, 2), "logits.bias": (2,)}
    weights = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    write_tensors(found / "shapes" / "weights.safetensors", weights)
    points = rng.uniform(-2, 2, (1500, 2)).astype(np.float32)
    inside = (np.hypot(points[:, 0], points[:, 1]) < 1).astype(np.int64)
    np.savez(found / "points.npz", points=points, inside=inside)
    return found


@pytest.fixture(scope="module")
def run(folder: Path) -> Iterator[Run]:
    with server(folder / "data", "--nodes", "2", "--log-level", "warning") as running:

        def invoke(*arguments: str, status: int = 0, stdin: str | bytes | None = None) -> Result:
            result = CliRunner().invoke(main, [*arguments, "--url", running.url], input=stdin)
            assert result.exit_code == status, result.output
            return result

        yield invoke


@pytest.fixture(scope="module")
def pushed(run: Run, folder: Path) -> Run:
    output = run("push", "shapes", "1.0", str(folder / "shapes"), "--alias", "first").output
    assert "shapes:1.0 is ready" in output
    return run


@pytest.fixture(scope="module")
def trained(pushed: Run, folder: Path) -> Run:
    pushed("ingest", "points", str(folder / "points.npz"))
    output = pushed(
        *("train", "shapes", "1.1", "--parent", "shapes:first", "--dataset", "points"),
        *("--target", "inside", "--epochs", "8", "--optimizer", "adam"),
        *("--learning-rate", "0.02", "--alias", "champion"),
    ).output
    assert "shapes:1.1 committed after 8 epochs" in output
    return pushed


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_pushed_folder_is_called_by_version_and_alias(pushed: Run) -> None:
    for model in ("shapes", "shapes:1.0", "shapes:first"):
        answer = as_json(pushed("call", model, "points=[0.5, 0.5]", "-o", "where", "--json"))
        assert answer["outputs"]["where"] in ("inside", "outside")
        assert answer["timing"]["batch_size"] == 1


def test_an_input_may_be_a_file_of_numpy(pushed: Run, folder: Path) -> None:
    np.save(folder / "two.npy", np.zeros((2, 2), np.float32))
    answer = as_json(pushed("call", "shapes", f"points=@{folder / 'two.npy'}", "--json"))
    assert len(answer["outputs"]["where"]) == 2


def test_training_further_commits_a_better_version_with_its_lineage(trained: Run) -> None:
    version = as_json(trained("models", "shapes", "1.1"))
    assert version["metrics"]["val_accuracy"] > 0.9
    assert version["lineage"]["parent"] == "shapes:1.0"
    assert version["lineage"]["dataset"] == "points"
    listing = trained("models", "shapes").output
    assert "champion" in listing


def test_a_gate_that_does_not_hold_has_a_status_and_a_reason_of_its_own(trained: Run) -> None:
    how = ("--parent", "shapes:first", "--dataset", "points", "--target", "inside")
    alias = ("--epochs", "1", "--alias", "champion", "--gate", "val_loss<0")
    told = trained("train", "shapes", "1.2", *how, *alias, status=3)
    assert "shapes:1.2 committed after 1 epoch" in told.stdout
    assert told.stderr.startswith("error: the alias champion stays: val_loss is ")
    assert told.stderr.endswith("; shapes:1.2 is a candidate\n")
    facts = as_json(trained("train", "shapes", "1.3", *how, *alias, "--json", status=3))
    assert facts["result"]["promoted"] is False
    again = trained("jobs", facts["job"], "--follow", status=3)
    assert "the gate asks for val_loss < 0" in again.stderr


def test_jobs_shows_what_ran(trained: Run) -> None:
    found = as_json(trained("jobs", "--json"))
    assert found[0]["state"] == "succeeded"
    job = as_json(trained("jobs", found[0]["job"]))
    assert "_manifest" not in job["request"]


def test_discover_finds_by_metric_and_says_what_failed(trained: Run) -> None:
    assert "1.1" in trained("discover", "--metric", "val_accuracy=>=0.9").output
    missed = trained("discover", "--metric", "val_accuracy=>=2", status=1)
    assert "asked >=2" in missed.output


def test_an_alias_moves_and_goes(trained: Run) -> None:
    assert "revision" in trained("alias", "shapes", "canary", "1.0").output
    trained("alias", "shapes", "canary", "--delete")
    assert (
        "has no version or alias 'canary'"
        in trained("call", "shapes:canary", "points=[0,0]", status=1).output
    )


def test_an_alias_is_shown_with_its_shares_and_its_past(trained: Run) -> None:
    for version in ("1.0", "1.1"):
        trained("alias", "shapes:seen", version)
    trained("alias", "shapes", "seen", "1.1", "--canary", "1.0", "--weight", "0.25")
    told = trained("alias", "shapes", "seen").output
    assert "shapes:seen is 1.1, canary 1.0, weight 0.25 (revision " in told
    assert "previous: 1.0" in told
    assert as_json(trained("alias", "shapes:seen", "--json"))["canary"] == "1.0"
    assert "seen (canary 1.0, weight 0.25)" in trained("models", "shapes").output
    trained("alias", "shapes:seen", "--delete")


def test_what_is_deleted_is_named_by_its_version(pushed: Run, folder: Path) -> None:
    for version in ("1.0", "1.1"):
        pushed("push", f"gone:{version}", str(folder / "shapes"))
    assert pushed("models", "gone", "latest", "--delete").output == "deleted gone:1.1\n"
    assert pushed("models", "gone", "--delete", "--yes").output == "deleted gone: 1 version\n"


@pytest.mark.parametrize(("answer", "status"), [("n\n", 1), ("y\n", 0)])
def test_somebody_at_a_terminal_is_asked_before_a_whole_model_goes(
    pushed: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, status: int
) -> None:
    pushed("push", "asked:1.0", str(folder / "shapes"))
    monkeypatch.setattr("aiaas_async.cli.models._asks", lambda: True)
    told = pushed("models", "asked", "--delete", status=status, stdin=answer).output
    assert ("deleted asked: 1 version" in told) is (status == 0)


def test_load_and_unload_name_the_real_version(trained: Run) -> None:
    assert "shapes:1.0 is on node-" in trained("load", "shapes:first").output
    assert trained("unload", "shapes", "first").output == "shapes:1.0 is unloaded\n"
    assert trained("unload", "shapes:1.0").output == "shapes:1.0 was not loaded\n"


def test_an_item_is_deleted_by_its_key_and_the_data_set_stays(trained: Run, folder: Path) -> None:
    trained("ingest", "less", str(folder / "points.npz"))
    (key,) = as_json(trained("datasets", "less", "--rows", "0:1"))["keys"]
    assert f"deleted item {key}" in trained("datasets", "less", "--delete", "--key", key).output
    assert "1499 items" in trained("datasets", "less").output


def test_a_job_that_is_over_is_followed_and_cancelled_in_one_line(trained: Run) -> None:
    job = as_json(trained("batch", "shapes:1.0", "points", "--into", "followed", "--json"))["job"]
    assert "1500 items into followed" in trained("jobs", job, "--follow").output
    told = trained("jobs", job, "--cancel").output
    assert told == f"job {job} has ended already: succeeded\n"


def test_an_input_may_come_from_standard_input(pushed: Run) -> None:
    answer = pushed("call", "shapes", "points=@-", "--json", stdin="[0.5, 0.5]")
    assert as_json(answer)["outputs"]["where"] in ("inside", "outside")


def test_load_pins_and_nodes_show_it(trained: Run) -> None:
    facts = as_json(trained("load", "shapes", "1.0", "--pin", "--json"))
    nodes = {node["id"]: node for node in as_json(trained("nodes", "--json"))}
    assert "shapes:1.0" in nodes[facts["node"]]["pinned"]
    trained("unload", "shapes", "1.0")
    assert as_json(trained("ring", "shapes:1.0"))["owner"] in nodes


def test_data_sets_are_listed_shown_and_deleted(trained: Run, folder: Path) -> None:
    trained("ingest", "again", str(folder / "points.npz"))
    assert "points float32[2]" in trained("datasets").output
    assert "1500 items" in trained("datasets", "again").output
    trained("datasets", "again", "--delete")
    assert "no data set" in trained("datasets", "again", status=1).output


def test_items_are_shown_by_key_and_by_range(trained: Run, folder: Path) -> None:
    page = as_json(trained("datasets", "points", "--rows", "2:5"))
    assert len(page["keys"]) == 3
    one = as_json(trained("datasets", "points", "--key", page["keys"][1]))
    assert one["columns"]["points"] == page["columns"]["points"][1]
    assert "START:STOP" in trained("datasets", "points", "--rows", "two", status=2).output
    assert "needs the NAME" in trained("datasets", "--rows", "0:1", status=2).output


def test_what_replaced_items_take_is_shown_and_given_back(trained: Run, folder: Path) -> None:
    for _ in range(2):
        trained("ingest", "twice", str(folder / "points.npz"))
    waste = as_json(trained("datasets", "twice", "--json"))["reclaimable_bytes"]
    assert waste == 1500 * 16
    assert "gives back 23.4 KiB" in trained("datasets", "twice").output
    assert "given back" in trained("datasets", "twice", "--compact").output
    assert "gives back 0 B" in trained("datasets", "twice").output


def test_an_upload_tells_of_its_items_as_they_go(
    trained: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, str]] = []

    @contextmanager
    def bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
        assert title == "barred"
        yield lambda *at: told.append(at)

    monkeypatch.setattr("aiaas_async.cli.datasets.step_bar", bar)
    monkeypatch.setattr("aiaas_async.client.datasets.VALUE_BYTES", 10_000)
    trained("ingest", "barred", str(folder / "points.npz"))
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] == (1500, 1500, "items")


def test_a_remembered_answer_says_where_it_comes_from(pushed: Run) -> None:
    pushed("deploy", "shapes:1.0", "--cache-mb", "1")
    for _ in range(2):
        told = pushed("call", "shapes:1.0", "points=[0.25, 0.5]").output
    assert "shapes:1.0 from the cache of answers" in told


def test_a_row_of_a_table_is_one_line_where_no_terminal_bounds_it(trained: Run) -> None:
    lines = trained("discover", "shapes", "--metric", "val_accuracy>=0").output.splitlines()
    assert "loss" in lines[1]
    assert "val_accuracy" in lines[1]


def test_a_description_given_at_a_push_leaves_the_signature_to_the_graph(
    pushed: Run, folder: Path
) -> None:
    said = ("--metadata", '{"description": "points in a circle"}')
    pushed("push", "shapes", "0.9", str(folder / "shapes"), *said)
    record = as_json(pushed("models", "shapes", "0.9", "--json"))
    assert record["description"] == "points in a circle"
    assert [given["name"] for given in record["inputs"]] == ["points"]


def test_a_canary_without_a_share_is_refused(pushed: Run) -> None:
    told = pushed("alias", "shapes", "first", "1.0", "--canary", "1.0", status=2).output
    assert "--weight" in told


def test_what_unloads_or_deletes_answers_in_json_too(pushed: Run) -> None:
    pushed("alias", "shapes", "brief", "1.0")
    pushed("load", "shapes:1.0")
    unloaded = as_json(pushed("unload", "shapes", "1.0", "--json"))
    assert unloaded == {"name": "shapes", "version": "1.0", "unloaded": True}
    deleted = as_json(pushed("alias", "shapes", "brief", "--delete", "--json"))
    assert deleted == {"deleted": {"name": "shapes", "alias": "brief"}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("call", "shapes", f"points=@{__file__}"), "neither JSON nor a .npy array"),
        (("call", "shapes", "points=[1]"), "float32 [2]"),
        (("call", "shapes", "points=null"), "input 'points' is null"),
        (("call", "shapes", "points=[[1,2],[3]]"), "the one at [1] has 1; got [[1, 2], [3]]"),
        (("call", "shapes", "points"), "name=JSON"),
        (("call", "shapes", "points=nonsense"), "is not JSON"),
        (("call", "shapes", "points=@/nonexistent.npy"), "cannot be read"),
        (("call", "", "points=[1,2]"), "model '' has no name"),
        (("call", "nobody", "points=[1,2]"), "no model is called 'nobody'"),
        (("call", "shapes:9", "points=[1,2]"), "no version or alias '9'"),
        (("train", "x", "1", "--dataset", "points"), "give 'graph'"),
        (("train", "x", "1", "--dataset", "none", "--parent", "shapes:1.0"), "no data set"),
        (
            (
                "train",
                "x",
                "1",
                "--dataset",
                "points",
                "--parent",
                "shapes",
                "--plan",
                '{"epoch":1}',
            ),
            "did you mean 'epochs'",
        ),
        (("register", "Bad Name", "1", "-i", "x", "-o", "y"), "is not allowed"),
        (("jobs", "nope"), "no job has the id"),
        (("nodes", "nope"), "no node is called"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    trained: Run, arguments: tuple[str, ...], said: str
) -> None:
    result = trained(*arguments, status=1)
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_the_demo_reaches_its_accuracy() -> None:
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 0, result.output
    accuracy = next(
        float(line.split()[-1]) for line in result.output.splitlines() if "test accuracy" in line
    )
    assert accuracy >= 0.97


def test_a_batch_fills_a_data_set_and_says_how_fast(trained: Run) -> None:
    output = trained("batch", "shapes:champion", "points", "--into", "answers").output
    assert "1500 items into answers" in output
    assert "1500 items" in trained("datasets", "answers").output
    assert "1500 of 1500 items" in trained("jobs").output


def test_the_table_of_jobs_says_why_one_failed(trained: Run) -> None:
    steep = '{"optimizer": {"name": "adamw", "weight_decay": 1}, "learning_rate": 1e6}'
    told = trained(
        *("train", "shapes", "8.0", "--parent", "shapes:1.0", "--dataset", "points"),
        *("--target", "inside", "--plan", steep),
        status=1,
    )
    reason = told.stderr.removeprefix("error: ").strip()
    assert "loss" in reason
    (row,) = [line for line in trained("jobs").output.splitlines() if "shapes:8.0" in line]
    assert "failed" in row
    assert row.endswith(reason)


def test_a_version_is_split_over_nodes_called_and_put_together_again(trained: Run) -> None:
    plan = trained("deploy", "shapes:1.0", "--distributed", "--dry-run").output
    assert "node-0" in plan
    assert "node-1" in plan
    placed = as_json(trained("deploy", "shapes:1.0", "--split", "pipeline", "--json"))
    refused = trained("nodes", "node-0", "--remove", status=1).stderr
    assert f"node node-0 is needed by deployment {placed['id']} of shapes:1.0" in refused
    answer = as_json(trained("call", "shapes:1.0", "points=[0.5, 0.5]", "--json"))
    assert set(answer["timing"]["node"].split("+")) == {"node-0", "node-1"}
    assert placed["id"] in trained("deployments").output
    trained("deployments", placed["id"], "--delete")
    assert "no deployments" in trained("deployments").output


def test_nodes_join_and_leave(trained: Run) -> None:
    assert "extra joined" in trained("nodes", "extra", "--join").output
    assert "extra" in trained("nodes").output
    assert "extra left" in trained("nodes", "extra", "--remove").output


def test_items_may_come_from_standard_input(run: Run, folder: Path) -> None:
    piped = (folder / "points.npz").read_bytes()
    assert "piped: 1500 items written" in run("ingest", "piped", "-", stdin=piped).output
    said = run("ingest", "piped", "-", stdin="x", status=1).output
    assert "standard input is no .npz file" in said


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.float32(3)}, "must lead with one number of items"),
        ({"x": np.zeros(2), "keys": np.array(["a"])}, "must lead with one number of items"),
        ({"x": np.zeros(2), "keys": np.array(["a", ""])}, "key '' has 0 bytes"),
        ({"x": np.array(["a"])}, "column 'x' holds texts"),
    ],
)
def test_what_cannot_be_stored_leaves_no_data_set_behind(
    run: Run, tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert said in run("ingest", "unmade", str(tmp_path / "x.npz"), status=1).output
    assert "unmade" not in run("datasets").output


def test_metadata_may_name_the_inputs_of_what_is_registered(run: Run) -> None:
    sides = json.dumps({"inputs": ["a"], "outputs": ["b"]})
    run("register", "described", "1.0", "--metadata", sides)
    found = json.loads(run("models", "described", "1.0").output)
    assert (found["inputs"], found["outputs"]) == (["a"], ["b"])


def test_items_of_other_columns_are_told_which_ones(run: Run, folder: Path, tmp_path: Path) -> None:
    run("ingest", "columned", str(folder / "points.npz"))
    np.savez(tmp_path / "x.npz", points=np.zeros((3, 3)))
    said = run("ingest", "columned", str(tmp_path / "x.npz"), status=1).output
    assert "(there: inside int64[], points float32[2] in 1; given: points float64[3] in 1)" in said


def test_a_column_of_another_name_feeds_a_batch(trained: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", where=np.arange(8, dtype=np.float32).reshape(4, 2))
    trained("ingest", "renamed", str(tmp_path / "x.npz"))
    line = ("batch", "shapes", "renamed", "--into", "fed", "--input")
    assert "4 items into fed" in trained(*line, "where=points").output
    said = trained(*line, "where", status=1).output
    assert "inputs are given as COLUMN=INPUT, got 'where'" in said
