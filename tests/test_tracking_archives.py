"""Model files from elsewhere: what could execute something when opened or run is refused unopened."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import yaml
from model_archives import Records, change
from torch import nn

from rmer.errors import UserError
from rmer.tracking.models.export import load_network, save_network

PAYLOAD = "__import__('pathlib').Path('exploited').touch()"


class Net(nn.Module):
    """A network whose export has sizes that are formulas, guards, and several kinds of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, spectrograms: torch.Tensor) -> dict[str, torch.Tensor]:
        batch, _, frames, _ = spectrograms.shape
        if frames > 7:
            spectrograms = spectrograms[:, :, : frames - 3]
        hidden = nn.functional.gelu(self.conv(spectrograms)).flatten(2)
        energy = torch.einsum("bij,bij->b", hidden, hidden)
        return {"output": self.head(hidden.mean(2)) + energy.reshape(batch, 1)}


class Exploit:
    """An object whose pickle writes a file."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("exploited"),)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model of which batch and frames are free."""
    folder = tmp_path_factory.mktemp("model") / "model"
    inputs = np.random.default_rng(0).normal(size=(3, 1, 20, 16)).astype(np.float32)
    save_network(folder, Net(), inputs, {"output": np.zeros((3, 3), np.float32)})
    program = torch.export.export(
        Net().eval(),
        (torch.from_numpy(inputs),),
        dynamic_shapes=[{0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}],
    )
    torch.export.save(program, folder / "data" / "model.pt2")
    return folder


@pytest.fixture
def model(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the model that a test may change, and go where nothing was exploited yet."""
    monkeypatch.chdir(tmp_path)
    for path in clean.rglob("*"):
        if path.is_file():
            copy = tmp_path / "model" / path.relative_to(clean)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return tmp_path / "model"


def in_json(edit: Callable[[Any], None], record: str = "models/model.json") -> Callable[[Records], None]:
    def apply(records: Records) -> None:
        content = json.loads(records[record])
        edit(content)
        records[record] = json.dumps(content).encode()

    return apply


def first_size(program: Any) -> Any:
    values = program["graph_module"]["graph"]["tensor_values"].values()
    return next(size["as_expr"] for value in values for size in value["sizes"] if "as_expr" in size)


def evil_size(program: Any) -> None:
    first_size(program).update(expr_str=f"{PAYLOAD} or 1", hint=None)


def evil_size_of_a_tensor_named_metadata(program: Any) -> None:
    values = program["graph_module"]["graph"]["tensor_values"]
    values["metadata"] = json.loads(json.dumps(next(iter(values.values()))))
    values["metadata"]["sizes"] = [{"as_expr": {"expr_str": f"{PAYLOAD} or 1"}}]


def evil_function(program: Any) -> None:
    call = {"name": "", "arg": {"as_string": "exploited"}, "kind": 1}
    node = {"target": "torch.os.mkdir", "inputs": [call], "outputs": [], "metadata": {}}
    program["graph_module"]["graph"]["nodes"].insert(0, node)


def evil_node_name(program: Any) -> None:
    module = program["graph_module"]
    old = module["graph"]["inputs"][-1]["as_tensor"]["name"]
    text = json.dumps(module).replace(json.dumps(old), json.dumps(f"x = {PAYLOAD}\n    y"))
    program["graph_module"] = json.loads(text)


def evil_keyword(program: Any) -> None:
    leaf = {"type": None, "context": None, "children_spec": []}
    args = {"type": "builtins.tuple", "context": "null", "children_spec": []}
    keywords = {"type": "builtins.dict", "context": json.dumps([f"x={PAYLOAD}"]), "children_spec": [leaf]}
    tree = {"type": "builtins.tuple", "context": "null", "children_spec": [args, keywords]}
    program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, tree])


def evil_parameter_name(program: Any) -> None:
    spec = next(one for one in program["graph_module"]["signature"]["input_specs"] if "parameter" in one)
    spec["parameter"]["parameter_name"] = "a.__class__.forward"


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def evil_weight(records: Records) -> None:
    def use_pickle(config: Any) -> None:
        entry = next(iter(config["config"].values()))
        entry["use_pickle"] = True
        records[f"data/weights/{entry['path_name']}"] = pickled(Exploit())

    in_json(use_pickle, "data/weights/model_weights_config.json")(records)


def evil_constant(records: Records) -> None:
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}
    records["data/constants/model_constants_config.json"] = json.dumps({"config": {"c": meta}}).encode()
    records["data/constants/opaque_obj_0"] = pickle.dumps(Exploit())


def put(value: object, *path: str | int) -> Callable[[Records], None]:
    """Return what sets an item of the program."""

    def edit(program: Any) -> None:
        for key in path[:-1]:
            program = program[key]
        program[path[-1]] = value

    return in_json(edit)


def record(name: str, content: bytes) -> Callable[[Records], None]:
    return lambda records: records.update({name: content})


NODE = ("graph_module", "graph", "nodes", 0)
SIGNATURE = ("graph_module", "module_call_graph", 0, "signature")
KIND = json.dumps({"__enum__": True, "fqn": "evil:Kind", "name": "A"})
IMPORT = json.dumps([1, {"type": "builtins.list", "context": KIND, "children_spec": []}])
EVIL = {
    "size": (in_json(evil_size), "expr_str.*__import__"),
    "size_in_a_string": (
        in_json(lambda program: first_size(program).update(expr_str=f'Max("{PAYLOAD} or 1", Integer(1))')),
        "expr_str",
    ),
    "size_of_a_tensor_named_metadata": (in_json(evil_size_of_a_tensor_named_metadata), "expr_str"),
    "guard": (put([f"{PAYLOAD} is None"], "guards_code"), "guards_code.*__import__"),
    "attribute_in_a_guard": (
        put(["torch.os.mkdir('exploited') is None"], "guards_code"),
        "guards_code.*mkdir",
    ),
    "function": (in_json(evil_function), "target 'torch.os.mkdir'"),
    "file_operator": (
        put("torch.ops.aten.from_file.default", *NODE, "target"),
        "target 'torch.ops.aten.from_file.default'",
    ),
    "subprogram": (put({"as_operator": "torch.os.mkdir"}, *NODE, "inputs", 0, "arg"), "as_operator"),
    "argument_name": (put([f"spectrograms={PAYLOAD}"], *SIGNATURE, "forward_arg_names"), "forward_arg_names"),
    "node_name": (in_json(evil_node_name), "name|not a plain name"),
    "import": (put(IMPORT, *SIGNATURE, "out_spec"), "out_spec"),
    "keyword": (in_json(evil_keyword), "in_spec"),
    "parameter_name": (in_json(evil_parameter_name), "parameter_name"),
    "weight": (evil_weight, "weights are pickled"),
    "constant": (evil_constant, "opaque_obj_0"),
    "example": (
        record("data/sample_inputs/model.pt", pickled(((Exploit(),), {}))),
        "example input is more than tensors",
    ),
    "compiled_library": (
        record("data/aotinductor/model/model.so", b"\x7fELF"),
        "contains 'data/aotinductor",
    ),
    "second_program": (
        lambda records: records.update({"models/other.json": records["models/model.json"]}),
        "contains 'models/other.json'",
    ),
    "legacy_weights": (
        record("data/weights/model.pt", pickled(Exploit())),
        "contains 'data/weights/model.pt'",
    ),
}


@pytest.mark.parametrize("kind", EVIL)
def test_an_archive_that_could_execute_something_is_refused(model: Path, kind: str) -> None:
    edit, reason = EVIL[kind]
    change(model, edit)
    with pytest.raises(UserError, match=rf"could run any code.*{reason}.*serialization_format='pt2'"):
        load_network(model)
    assert not Path("exploited").exists()


@pytest.mark.parametrize("kind", ["size", "guard"])
def test_the_danger_is_real(model: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own check for pickles does not find these: the checks above are needed."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    change(model, EVIL[kind][0])
    mlflow.pytorch.load_model(str(model))(torch.zeros(1, 1, 31, 16))
    assert Path("exploited").exists()


def test_a_second_list_of_contents_is_refused(model: Path) -> None:
    with (
        zipfile.ZipFile(model / "data" / "model.pt2", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("model/models/model.json", b"{}")
    with pytest.raises(UserError, match="contents is ambiguous"):
        load_network(model)


def edit_flavour(model: Path, **values: object) -> None:
    content = yaml.safe_load((model / "MLmodel").read_text())
    content["flavors"]["pytorch"] |= values
    (model / "MLmodel").write_text(yaml.safe_dump(content))


def test_a_model_with_python_code_of_its_own_is_refused(model: Path) -> None:
    (model / "code").mkdir()
    edit_flavour(model, code="code")
    with pytest.raises(UserError, match="brings Python code of its own"):
        load_network(model)


def test_a_program_outside_of_the_folder_is_refused(model: Path) -> None:
    (model / "data").rename(model.parent / "elsewhere")
    edit_flavour(model, model_data="../elsewhere")
    with pytest.raises(UserError, match="lies outside"):
        load_network(model)


def test_a_pickle_beside_the_program_is_refused(model: Path) -> None:
    (model / "data" / "model.pth").write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(UserError, match="stored as a pickle"):
        load_network(model)
    assert not Path("exploited").exists()


@pytest.mark.parametrize("rewritten", [False, True])
def test_an_honest_model_with_formulas_and_guards_loads(model: Path, rewritten: bool) -> None:
    if rewritten:  # so that a refusal above is not due to how the archive was written
        change(model, lambda records: None)
    loaded = load_network(model)
    with torch.no_grad():
        assert loaded(torch.zeros(2, 1, 31, 16))["output"].shape == (2, 3)
