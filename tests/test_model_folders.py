"""Model folders that were altered: the weights given are the weights attacked, or a line says why not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from model_archives import Records, change
from noise_data import log_dataset, noise_dataset
from safetensors.torch import load_file, save_file

from rmer.errors import UserError
from rmer.stages.attack.attack import attack, victims_of
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.victims import Victim
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.tracking import Origin, RunSpec, Stage, Store, Tag

PGD = {"attack": "pgd", "steps": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def trained(lasting_store: Store) -> tuple[Store, str]:
    """A store with a small data set and a system trained on it for an epoch."""
    data = noise_dataset(["train"] * 8 + ["validation"] * 8 + ["test"] * 4)
    spec = RunSpec(Stage.PREPROCESS, "data", {}, {Tag.DATASET: data.digest})
    lasting_store.perform(spec, lambda run: log_dataset(run, data))
    params = TrainParams(system="A2M2E", epochs=1, device="cpu")
    return lasting_store, train(lasting_store, params).run_id


@pytest.fixture
def folder(trained: tuple[Store, str], tmp_path: Path) -> Path:
    """A copy of the logged model."""
    store, run_id = trained
    return Path(shutil.copytree(store.model_folder(f"runs:/{run_id}/model"), tmp_path / "model"))


def victim_of(store: Store, uri: Path | str) -> Victim:
    (victim,) = victims_of(store, AttackParams(model_uri=str(uri), **PGD))
    return victim


def weights_of(records: Records, name: str) -> str:
    """Return the record that holds the weights called ``name``."""
    config = json.loads(records["data/weights/model_weights_config.json"])
    return f"data/weights/{config['config'][name]['path_name']}"


def scaled(name: str, factor: float) -> Callable[[Path], None]:
    def edit(records: Records) -> None:
        record = weights_of(records, name)
        records[record] = (np.frombuffer(records[record], np.float32) * np.float32(factor)).tobytes()

    return lambda folder: change(folder, edit)


def record(name: str, content: bytes | None) -> Callable[[Path], None]:
    """Return what replaces, adds or (None) drops a record of the program."""

    def edit(records: Records) -> None:
        records[name] = content or b""
        if content is None:
            del records[name]

    return lambda folder: change(folder, edit)


def short_weights(folder: Path) -> None:
    change(folder, lambda records: records.update({w: records[w][:100] for w in ["data/weights/weight_0"]}))


def program(edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "data" / "model.pt2"
        file.write_bytes(edit(file.read_bytes()))

    return apply


def description(text: str | bytes) -> Callable[[Path], object]:
    content = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / "MLmodel").write_bytes(content)


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def replaced(path: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / path).unlink()
        (folder / path).mkdir()

    return apply


def test_an_untouched_copy_is_attacked_as_the_model_of_its_run(
    trained: tuple[Store, str], folder: Path
) -> None:
    store, run_id = trained
    for uri in (folder, f"runs:/{run_id}/model"):
        victim = victim_of(store, uri)
        assert victim.run is not None
        assert victim.run.run_id == run_id
    (by_tag,) = attack(store, AttackParams(system="A2M2E", **PGD))
    (by_folder,) = attack(store, AttackParams(model_uri=str(folder), **PGD))
    assert (by_folder.run_id, by_folder.skipped) == (by_tag.run_id, True)


@pytest.mark.parametrize(
    "alter",
    [
        scaled("fc_ml2emo.weight", 2.0),
        scaled("fc_ml2emo.bias", 1.5),
        scaled("preconcept_model.conv1.0.weight", 1 + 2**-20),  # one step of training, say
        scaled("preconcept_model.conv11.1.running_var", 4.0),
        scaled("fc_ml.weight", 0.0),
    ],
)
def test_other_weights_are_attacked_as_a_model_of_other_origin(
    trained: tuple[Store, str],
    folder: Path,
    alter: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, run_id = trained
    alter(folder)
    victim = victim_of(store, folder)
    own = victim_of(store, f"runs:/{run_id}/model")
    assert victim.run is None
    assert victim.digest != own.digest
    given = store.load_model(str(folder)).state_dict()
    assert all(torch.equal(values, given[name]) for name, values in victim.model.state_dict().items())
    note = f"Note: {folder} names run {run_id} (A2M2E s6), but its weights are others than that run's: "
    assert f"{note}attacked as a model of other origin\n" in capsys.readouterr().err


def test_a_fine_tuned_copy_has_a_run_and_numbers_of_its_own(trained: tuple[Store, str], folder: Path) -> None:
    store, _ = trained
    scaled("fc_ml2emo.weight", 2.0)(folder)
    (own,) = attack(store, AttackParams(system="A2M2E", **PGD))
    (other,) = attack(store, AttackParams(model_uri=str(folder), **PGD))
    assert other.run_id != own.run_id
    record, reference = store.get(other.run_id), store.get(own.run_id)
    assert record.tags[Tag.ORIGIN] == Origin.EXTERNAL
    assert record.tags[Tag.MODEL_URI] == str(folder)
    assert Tag.TRAIN_RUN_ID not in record.tags
    assert record.params["cfg.model"] != reference.params["cfg.model"]
    assert record.metrics["clean/mae"] != pytest.approx(reference.metrics["clean/mae"], rel=1e-3)


DAMAGED = (
    "{folder}/data/model.pt2: this model file is damaged ({reason}). Restore the file, or log the model again"
)
NO_MODEL = (
    "{folder}: this is no PyTorch model ({reason}). "
    "Log it with mlflow.pytorch.log_model(..., serialization_format='pt2')"
)
DANGER = (
    "{folder}/data/model.pt2: this model could run any code when it is opened: {reason}. Use a model from "
    "somebody you trust, made of PyTorch's own operators and logged with mlflow.pytorch.log_model(..., "
    "serialization_format='pt2')"
)
NO_VALUES = "its MLmodel file holds no names with values"
NOT_FINITE = (
    "A2M2E s6: weights are NaN or infinite (program.{reason}). Give a model whose training did not diverge"
)


@pytest.mark.parametrize(
    ("alter", "message", "reason"),
    [
        (program(lambda content: content[:10]), DAMAGED, "RuntimeError"),
        (program(lambda content: content[: len(content) // 2]), DAMAGED, "RuntimeError"),
        (program(lambda content: content[:-100]), DAMAGED, "RuntimeError"),
        (program(lambda content: b""), DAMAGED, "RuntimeError"),
        (program(lambda content: b"hello"), DAMAGED, "RuntimeError"),
        (program(flipped), DAMAGED, "data/weights/weight_24 does not fit its checksum"),
        (record("models/model.json", b"{"), DAMAGED, "JSONDecodeError"),
        (record("models/model.json", b"{}"), DAMAGED, "TypeError"),
        (record("models/model.json", b"[" * 100_000), DAMAGED, "RecursionError"),
        (record("models/model.json", None), DAMAGED, "RuntimeError"),
        (record("data/weights/weight_5", None), DAMAGED, "RuntimeError"),
        (short_weights, DAMAGED, "RuntimeError"),
        (record("extra.txt", b"x"), DANGER, "it contains 'extra.txt'"),
        (replaced("data/model.pt2"), NO_MODEL, "it has no file model.pt2"),
        (replaced("MLmodel"), NO_MODEL, "it has no MLmodel file"),
        (description(""), NO_MODEL, NO_VALUES),
        (description("- a\n- b\n"), NO_MODEL, NO_VALUES),
        (description("hello"), NO_MODEL, NO_VALUES),
        (
            description("!!python/object/apply:os.system [ls]\n"),
            NO_MODEL,
            "ConstructorError in its MLmodel file",
        ),
        (description("[" * 3000), NO_MODEL, "RecursionError in its MLmodel file"),
        (description("a: " + "9" * 5000), NO_MODEL, "ValueError in its MLmodel file"),
        (description("a: 2026-99-99"), NO_MODEL, "ValueError in its MLmodel file"),
        (description(bytes(range(256))), NO_MODEL, "UnicodeDecodeError in its MLmodel file"),
        (description("flavors: [pytorch]"), NO_MODEL, "it is of kind none"),
        (description("flavors: {sklearn: {a: 1}}"), NO_MODEL, "it is of kind sklearn"),
        (description("flavors: {pytorch: {model_data: [data]}}"), NO_MODEL, "it has no file model.pt2"),
        (scaled("fc_ml.bias", np.nan), NOT_FINITE, "fc_ml.bias"),
        (scaled("fc_ml.weight", np.inf), NOT_FINITE, "fc_ml.weight"),
    ],
)
def test_what_is_no_whole_model_is_said_in_one_line(
    trained: tuple[Store, str], folder: Path, alter: Callable[[Path], object], message: str, reason: str
) -> None:
    alter(folder)
    with pytest.raises(UserError) as caught:
        victim_of(trained[0], folder)
    assert str(caught.value) == message.format(folder=folder, reason=reason)


ALTERED = {
    "checkpoints/best.safetensors": {"system": "A2M2E"},
    "model/data/model.pt2": {"model_uri": "runs:/{run}/model"},
    "dataset/clips.csv": {"system": "A2M2E"},
}


@pytest.mark.parametrize("path", ALTERED)
def test_a_store_that_holds_other_weights_or_data_than_its_run_logged_is_told(
    trained: tuple[Store, str], path: str
) -> None:
    store, run_id = trained
    params = {name: value.format(run=run_id) for name, value in ALTERED[path].items()}
    if path.startswith("dataset"):
        run_id = store.get(run_id).tags[Tag.DATASET_RUN_ID]
    artifact, _, below = path.partition("/")
    is_model = artifact == "model"
    root = store.model_folder(f"runs:/{run_id}/model") if is_model else store.download(run_id, artifact)
    kept = (root / below).read_bytes()
    (root / below).write_bytes(kept[:-1])
    try:
        with pytest.raises(UserError) as caught:
            next(victims_of(store, AttackParams(**params, **PGD)))
    finally:
        (root / below).write_bytes(kept)
    name = store.get(run_id).name
    path = path.replace("model/", f"{name}/", 1) if is_model else path  # a model is called after its run
    assert str(caught.value) == (
        f"run {run_id} ({name}): {path} is not the file that the run logged. Restore the "
        f"file, or delete the run (`mlflow runs delete --run-id {run_id}`) and repeat it"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a checkpoint of this network (SafetensorError). {state}"),
        (b"hello", "not a checkpoint of this network (SafetensorError). {state}"),
        (bytes(range(256)), "not a checkpoint of this network (SafetensorError). {state}"),
        (None, "is no file. Give a checkpoint file"),
    ],
)
def test_checkpoints_that_cannot_be_read(
    trained: tuple[Store, str], tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "best.safetensors"
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        victim_of(trained[0], file)
    state = "Give a state dict saved by rmer or by the published code"
    assert str(caught.value) == f"{file}: {message.format(state=state)}"


def test_a_checkpoint_that_holds_nan_is_refused(trained: tuple[Store, str], tmp_path: Path) -> None:
    store, run_id = trained
    state = load_file(store.download(run_id, "checkpoints/best.safetensors"))
    state["fc_ml.bias"][0] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")
    message = (
        f"{tmp_path}/nan.safetensors: weights are NaN or infinite (fc_ml.bias). Train again with a smaller "
        "lr, or give another checkpoint"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        victim_of(store, tmp_path / "nan.safetensors")
