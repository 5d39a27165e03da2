"""What a push takes from a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiaas_async.client.folder import examine
from aiaas_async.convert.onnxgraph import onnx_model
from aiaas_async.errors import ArtifactError, InvalidError
from tests.nn.graphs import single

GRAPH = {"inputs": [{"name": "x"}], "outputs": ["y"], "layers": []}


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_files_are_called_by_their_path_within_the_folder(tmp_path: Path) -> None:
    fill(tmp_path, "b.bin", "a/c.bin", ".git/config", "a/.DS_Store", "metadata.json")
    contents = examine(tmp_path)
    assert list(contents.files) == ["a/c.bin", "b.bin"]
    assert contents.nbytes() == 4


def test_links_that_lead_out_of_the_folder_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    fill(tmp_path, "secret", "model/graph.json", "model/real.bin", "elsewhere/x.bin")
    (folder / "within.bin").symlink_to("real.bin")
    assert list(examine(folder).files) == ["graph.json", "real.bin", "within.bin"]
    (folder / "weights.bin").symlink_to("../secret")
    (folder / "metadata.json").symlink_to(tmp_path / "secret")
    (folder / "more").symlink_to("../elsewhere")
    with pytest.raises(InvalidError, match="links lead out of the folder 'model'") as caught:
        examine(folder)
    for name in ("'metadata.json'", "'more'", "'weights.bin'"):
        assert name in caught.value.message


def test_warm_up_requests_go_along(tmp_path: Path) -> None:
    fill(tmp_path, "graph.json", "warmup/first.json")
    assert list(examine(tmp_path).files) == ["graph.json", "warmup/first.json"]


def test_a_single_file_is_called_by_its_name(tmp_path: Path) -> None:
    fill(tmp_path, "model.bin")
    contents = examine(tmp_path / "model.bin")
    assert list(contents.files) == ["model.bin"]
    assert contents.metadata is None


def test_an_onnx_file_says_itself_what_it_takes_and_gives(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    network = single("dense", (4,), units=2)
    path.write_bytes(onnx_model(network, network.init(0)))
    expected = {"inputs": ["x"], "outputs": ["layer"], "runtime": "onnx"}
    assert examine(path).metadata == expected
    assert examine(tmp_path).metadata == expected
    (tmp_path / "metadata.json").write_text('{"tags": ["t"]}')
    assert examine(tmp_path).metadata == {**expected, "tags": ["t"]}


def test_what_an_onnx_file_does_not_refer_to_is_told_before_it_is_sent(tmp_path: Path) -> None:
    network = single("dense", (4,), units=2)
    fill(tmp_path, "deep/README.md", "warmup/first.json")
    (tmp_path / "deep/model.onnx").write_bytes(onnx_model(network, network.init(0)))
    with pytest.raises(ArtifactError, match=r"does not refer to \['deep/README.md'\]"):
        examine(tmp_path).check_runtime("onnx")
    examine(tmp_path).check_runtime("mine")
    (tmp_path / "deep/README.md").unlink()
    examine(tmp_path).check_runtime("onnx")


def test_a_file_that_is_no_onnx_for_all_its_name_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "model.onnx")
    with pytest.raises(ArtifactError, match=r"model\.onnx' is not an ONNX file"):
        examine(tmp_path / "model.onnx")


def test_the_graph_gives_the_signature_and_metadata_has_the_last_word(tmp_path: Path) -> None:
    fill(tmp_path, "w")
    assert examine(tmp_path).metadata is None
    (tmp_path / "graph.json").write_text(json.dumps(GRAPH))
    assert examine(tmp_path).metadata == {"inputs": [{"name": "x"}], "outputs": ["y"]}
    (tmp_path / "metadata.json").write_text('{"outputs": ["z"], "tags": ["t"]}')
    assert examine(tmp_path).metadata == {
        "inputs": [{"name": "x"}],
        "outputs": ["z"],
        "tags": ["t"],
    }


def test_what_is_no_folder_of_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="neither a file nor a folder"):
        examine(tmp_path / "nothing")
    with pytest.raises(InvalidError, match="no files"):
        examine(tmp_path)
    fill(tmp_path, "w")
    (tmp_path / "metadata.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"metadata\.json is not sound JSON"):
        examine(tmp_path)


@pytest.mark.parametrize(
    ("names", "pushed", "said"),
    [
        (["m.pkl"], "m.pkl", "'m.pkl' is a pickle, and pickles are not loaded"),
        (["m.pt"], "m.pt", "Export the model to ONNX"),
        (["m.joblib"], "", "a runtime of your own"),
        (["graph.json", "w.safetensors"], "graph.json", "give the folder that holds it"),
        (["a.onnx", "b.onnx"], "", "2 .onnx files (a.onnx, b.onnx)"),
        (["notes.txt", "b.bin"], "", "no metadata.json or graph.json"),
    ],
)
def test_files_that_do_not_say_what_they_take_are_answered_with_what_to_give(
    tmp_path: Path, names: list[str], pushed: str, said: str
) -> None:
    fill(tmp_path, *names)
    contents = examine(tmp_path / pushed)
    assert contents.metadata is None
    assert said in contents.what_is_missing()


def test_pickles_alone_are_for_a_runtime_of_one_s_own(tmp_path: Path) -> None:
    fill(tmp_path, "a/m.pkl")
    with pytest.raises(InvalidError, match="pickles are not loaded"):
        examine(tmp_path).check_runtime("numpy")
    examine(tmp_path).check_runtime("mine")
    fill(tmp_path, "weights.safetensors")
    examine(tmp_path).check_runtime("numpy")
