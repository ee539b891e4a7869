"""Models known by their predictions alone: a callable, and a regressor that MLflow serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import joblib
import mlflow
import numpy as np
import pytest
import torch
from conftest import ROOT
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from noise_data import log_dataset, noise_dataset, published_parts
from servers import free_port, wait_for
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from rmer.attacks.apgd import APGD
from rmer.attacks.noise import Noise
from rmer.attacks.result import Passes
from rmer.attacks.square import Square
from rmer.attacks.suite import TIERS
from rmer.attacks.threat import Threat
from rmer.errors import UserError
from rmer.evaluation.budgets import sweep
from rmer.evaluation.checks.controls import Background, control_cost, gather
from rmer.evaluation.checks.sanity import OF_GRADIENTS
from rmer.evaluation.metrics import regression_scores
from rmer.evaluation.subject import Subject
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.systems.black_box import BlackBox, PlainOutput, adapted, served
from rmer.systems.frozen import FrozenNetwork
from rmer.tracking import Artifact, Run, RunRecord, RunSpec, Stage, Store, Tag

FRAMES = 24
# A scikit-learn regressor on the mean level of eight groups of bands, as one file of code, without pickles.
REGRESSOR = """
import mlflow
import numpy as np
from sklearn.linear_model import Ridge


def levels(spectrograms):
    parts = np.array_split(np.asarray(spectrograms), 8, axis=3)
    return np.stack([part.mean(axis=(1, 2, 3)) for part in parts], 1)


class Regressor(mlflow.pyfunc.PythonModel):
    def __init__(self):
        rng = np.random.default_rng(1)
        self.ridge = Ridge().fit(rng.normal(0, 1, (40, 8)), rng.uniform(0, 1, (40, 8)))

    def predict(self, context, model_input, params=None):
        return self.ridge.predict(levels(model_input))


mlflow.models.set_model(Regressor())
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("regressor")
    (folder / "regressor.py").write_text(REGRESSOR)
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("float32"), (-1, 1, FRAMES, 149))]),
        Schema([TensorSpec(np.dtype("float64"), (-1, 8))]),
    )
    mlflow.pyfunc.save_model(
        folder / "model", python_model=str(folder / "regressor.py"), signature=signature, pip_requirements=[]
    )
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        str(folder / "model"),
        "-p",
        str(port),
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "-h", "127.0.0.1"],
            stdout=log, stderr=log, env=dict(os.environ), cwd=ROOT, start_new_session=True,
        )  # fmt: skip
    try:
        inputs = torch.zeros(1, 1, FRAMES, 149)
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}", inputs), f"no answer: see {folder / 'log'}")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def _answers(address: str, inputs: Tensor) -> bool:
    try:
        return served(address)(inputs)["output"].shape == (1, 8)
    except UserError:
        return False


def regressor() -> BlackBox:
    """Return the regressor of the server in this process."""
    module: dict[str, object] = {}
    exec(REGRESSOR.replace("mlflow.models.set_model(Regressor())", "model = Regressor()"), module)
    model = module["model"]
    return BlackBox(lambda spectrograms: model.predict(None, spectrograms), "regressor")  # type: ignore[attr-defined]


def test_a_served_model_predicts_what_it_predicts_here(address: str) -> None:
    inputs = torch.randn(3, 1, FRAMES, 149)
    assert torch.allclose(served(address)(inputs)["output"], regressor()(inputs)["output"], atol=1e-5)
    assert torch.allclose(
        served(f"{address}/invocations")(inputs)["output"], regressor()(inputs)["output"], atol=1e-5
    )


def test_a_search_without_gradients_finds_most_of_what_a_linear_model_can_lose() -> None:
    model, inputs = regressor(), torch.randn(4, 1, FRAMES, 149)
    labels = model(inputs)["output"]
    ridge = model.predict.__closure__[0].cell_contents.ridge  # type: ignore[attr-defined]
    # A budget moves each level by epsilon at most, the error by that times the largest signed sum of weights.
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0])] * 8)
    best = 0.1 * float((signs @ torch.from_numpy(ridge.coef_).float()).abs().sum(1).max()) / 8
    threat = Threat("linf", 0.1)
    found = {
        name: float(
            (model(method(model, inputs, labels, threat, seed=1).adversaries)["output"] - labels).abs().mean()
        )
        for name, method in (("square", Square(queries=400)), ("noise", Noise(draws=5)))
    }
    assert best >= found["square"] > 0.5 * best
    assert found["square"] > 3 * found["noise"]


def test_attacks_that_need_gradients_say_why_they_do_not_work() -> None:
    inputs = torch.randn(2, 1, FRAMES, 149)
    with pytest.raises(UserError, match=r"known by its predictions alone.*square, noise and transfer"):
        APGD(3)(regressor(), inputs, torch.zeros(2, 8), Threat("linf", 0.1))


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (lambda x: np.zeros((len(x), 8, 2)), r"predicts \[2, 8, 2\] for 2 clips"),
        (lambda x: np.zeros((1, 8)), r"predicts \[1, 8\] for 2 clips"),
        (lambda x: [["a"] * 8] * len(x), "something else than numbers"),
        (lambda x: [[1.0], [1.0, 2.0]], "something else than numbers"),
    ],
)
def test_what_is_no_prediction_is_refused(returned: object, told: str) -> None:
    with pytest.raises(UserError, match=told):
        BlackBox(returned, "mine")(torch.zeros(2, 1, FRAMES, 149))  # type: ignore[arg-type]


def test_a_network_that_returns_a_plain_tensor_is_taken() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(FRAMES * 149, 8)).eval()
    inputs = torch.randn(2, 1, FRAMES, 149)
    model = adapted(network, inputs)
    assert isinstance(model, PlainOutput)
    assert torch.equal(model(inputs)["output"], network(inputs))
    assert adapted(model, inputs) is model
    _, gradient = FrozenNetwork(model).gradient(inputs, lambda found: found["output"].sum(1))
    assert torch.allclose(gradient.flatten(1)[0], network[1].weight.sum(0), atol=1e-5)


class _Odd(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(
            {"predictions": None} if self.path.startswith("/none") else {"error": "no"}
        ).encode()
        self.send_response(400 if self.path.startswith("/refuses") else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("path", "told"),
    [("refuses", "the server refuses"), ("none", "no predictions"), ("odd", "no predictions")],
)
def test_what_a_server_answers_instead_is_told(path: str, told: str) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(UserError, match=told):
        served(f"http://127.0.0.1:{server.server_port}/{path}")(torch.zeros(1, 1, FRAMES, 149))
    server.shutdown()


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match=r"no model answers.*Start it"):
        served(f"http://user:secret@127.0.0.1:{free_port()}")(torch.zeros(1, 1, FRAMES, 149))


@pytest.fixture(scope="module")
def store(lasting_store: Store) -> Store:
    """A store with a data set, and a model of rmer's to transfer from."""
    data = noise_dataset(published_parts(16), frames=FRAMES)

    def log(run: Run) -> None:
        log_dataset(run, data)
        run.tags({Tag.DATASET: data.digest, Tag.DATASET_RUN_ID: run.run_id})

    lasting_store.perform(RunSpec(Stage.PREPROCESS, "noise", {"a": 1}), log)
    train(lasting_store, TrainParams(system="A2E", epochs=1, width=0.125))
    return lasting_store


def test_one_command_evaluates_a_served_regressor(address: str, store: Store) -> None:
    (outcome,) = attack(
        store, AttackParams(attack="square", queries=30, epsilon=0.1, model_uri=address, system="served")
    )
    run = store.get(outcome.run_id)
    assert run.tags["rmer.system"] == "served"
    assert run.metrics["adv/mae"] > run.metrics["clean/mae"]
    assert run.metrics["budget/violations"] == 0


# What a user has: a fitted regressor in a file of joblib's, which is loaded by the user's own code alone.
OWN_CODE = """
from pathlib import Path

import joblib
import numpy as np

regressor = joblib.load(Path(__file__).with_name("regressor.joblib"))


def predict(spectrograms):
    return regressor.predict(spectrograms.mean(axis=(1, 2)))
"""


@pytest.mark.parametrize(
    "given",
    [
        {"attack": "square", "queries": 60},
        {"attack": "noise", "draws": 3},
        {"attack": "transfer", "source_system": "A2E", "steps": 5},
    ],
)
def test_one_command_evaluates_a_regressor_that_own_code_loads(
    store: Store, tmp_path: Path, given: dict[str, object]
) -> None:
    rng = np.random.default_rng(2)
    joblib.dump(
        Ridge().fit(rng.normal(size=(40, 149)), rng.uniform(size=(40, 8))), tmp_path / "regressor.joblib"
    )
    code = tmp_path / "mine.py"
    code.write_text(OWN_CODE)
    params = AttackParams(model_uri=f"{code}:predict", seed="6", epsilon=0.1, **given)  # type: ignore[arg-type]
    (outcome,) = attack(store, params)
    run = store.get(outcome.run_id)
    assert run.tags["rmer.system"] == "predict"
    assert run.metrics["budget/violations"] == 0
    if given["attack"] == "square":
        assert run.metrics["adv/mae"] > run.metrics["clean/mae"] + 1e-3
        assert attack(store, params)[0].skipped
        # Another regressor in the same file is another model.
        joblib.dump(
            Ridge().fit(rng.normal(size=(40, 149)), rng.uniform(size=(40, 8))), tmp_path / "regressor.joblib"
        )
        assert not attack(store, params)[0].skipped


def forest(folder: Path) -> Path:
    """Write a file that defines a random forest on the mean level of each band, and return its path."""
    (folder / "forest.py").write_text(
        "import numpy as np\n"
        "from sklearn.ensemble import RandomForestRegressor\n"
        "rng = np.random.default_rng(3)\n"
        "levels = rng.normal(0, .3, (300, 149))\n"
        "regressor = RandomForestRegressor(20, random_state=0).fit(levels, .5 + levels[:, :8])\n"
        "def predict(x): return regressor.predict(x.mean(axis=(1, 2)))\n"
    )
    return folder / "forest.py"


def suite_of(store: Store, study: str) -> dict[str, str]:
    data = store.find(Stage.PREPROCESS)[0].run_id
    return {"attack": "suite", "tier": "brief", "study": study, "dataset_run_id": data}


@pytest.fixture(scope="module")
def suite(store: Store, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A suite on a random forest: a function of steps, whose gradients would be zero."""
    code = forest(tmp_path_factory.mktemp("forest"))
    given = suite_of(store, "mine")
    params = AttackParams(model_uri=f"{code}:predict", system="forest", seed="6", **given)  # type: ignore[arg-type]
    (outcome,) = attack(store, params)
    assert attack(store, params)[0].skipped
    with pytest.raises(UserError, match=r"warm_start.*predictions alone.*Leave it out"):
        attack(store, replace(params, warm_start=True))
    return store.get(outcome.run_id)


def test_a_suite_without_gradients_is_an_evaluation_by_queries(store: Store, suite: RunRecord) -> None:
    assert (suite.params["cfg.search"], suite.params["cfg.queries"]) == ("square", "20")
    assert "cfg.steps" not in suite.params
    assert suite.metrics["cost/gradients"] == 0
    assert suite.metrics["budget/violations"] == 0
    assert suite.metrics["adv/mae"] > suite.metrics["clean/mae"]
    clips = store.read_table(suite.run_id, Artifact.ADVERSARY_CLIPS)
    # Two budgets: the clean clip and twenty queries each.
    assert suite.metrics["cost/forwards"] == 2 * 21 * len(clips)
    emotions = [name.removeprefix("label_") for name in clips if str(name).startswith("label_")]
    kinds = ("label", "adv")
    labels, found = (clips[[f"{kind}_{name}" for name in emotions]].to_numpy() for kind in kinds)
    correlation = regression_scores(labels, found, emotions).mean["corr"]
    assert suite.metrics["adv/corr"] == pytest.approx(correlation, abs=1e-6)
    assert "lower bound" in suite.tags["mlflow.note.content"]
    curve = store.read_table(suite.run_id, Artifact.CURVE)
    assert bool((curve["mae"] > suite.metrics["clean/mae"]).iloc[1:].all())


def test_what_needs_gradients_is_not_measured(store: Store, suite: RunRecord) -> None:
    checks = store.read_table(suite.run_id, Artifact.SANITY).set_index("check")
    without = checks[checks["detail"] == "not measured: the model gives no gradient"]
    assert set(without.index) == set(OF_GRADIENTS)
    assert without["passed"].isna().all()
    held = ["evaluation_mode", "budget_held", "budget_used", "seed_changes_the_attack"]
    held += ["saved_adversaries_rescore", "worst_for_its_own_metric"]
    assert checks["passed"][held].eq(True).all()
    # Twenty queries are few, and these say so.
    judged = [
        "damage_grows_with_epsilon",
        "white_box_at_least_transfer",
        "attack_beats_noise",
        "more_steps_change_little",
    ]
    assert checks["passed"][judged].notna().all()
    assert "transfer against square" in checks["detail"]["white_box_at_least_transfer"]


def test_the_tier_of_a_paper_asks_for_predictions_alone_too() -> None:
    """Its search adapts, and is compared with a fixed one where there are gradients."""
    model, inputs = regressor(), torch.randn(8, 1, FRAMES, 149)
    subject = Subject(
        FrozenNetwork(model),
        inputs,
        model(inputs)["output"] + 0.1,
        lambda epsilon: Threat.per_cell("l2", epsilon, inputs[0].numel()),
    )
    tier = replace(TIERS["paper"], queries=10)
    points = sweep(subject, (Square(tier.queries),), [0.01, 0.1])
    targets = tuple("abcdefgh")
    background = Background(targets, {}, 0.2)
    found = gather(subject, background, tier, points, points[-1], points[-1].adversaries)
    assert found.searched_by == "square"
    assert set(found.attacked) == {"square", "uniform", "sign", "gaussian"}
    assert (found.gradients, found.slope_errors, found.gradients_planned) == (None, None, None)
    assert found.gradients_spent == subject.network.gradients == 0
    # On all clips two budgets and the huge one, on six of them three draws of noise and twice the queries.
    asked = 3 * 11 * 8 + 6 * (3 + 21)
    assert asked <= subject.network.forwards
    cost = control_cost(tier, 8, clips=8, transfer=False, black_box=True)
    one, ten, twenty = (Passes(0, forwards).in_gradients for forwards in (1, 11, 21))
    assert cost == 6 * (3 * one + twenty) + 8 * ten


def test_a_report_of_predictions_alone(store: Store, suite: RunRecord) -> None:
    report = analyze(store, AnalyzeParams(study="mine", attack="suite")).report
    assert "forest" in report.headline[0]
    assert any("by predictions alone" in said and "lower bound" in said for said in report.headline)
    assert not any("through its gradients" in said for said in report.headline)
    assert "correlation is that of the adversaries for raw MAE" in report.systems_caption
    assert [section.title for section in report.sections if "precision" in section.title.lower()] == []


def test_a_report_says_which_systems_met_the_weaker_attack(
    store: Store, suite: RunRecord, tmp_path: Path
) -> None:
    """A regressor beside a network: a comparison of two different attacks."""
    given = suite_of(store, "both")
    attack(store, AttackParams(train_run_id=store.find(Stage.TRAIN)[0].run_id, **given))  # type: ignore[arg-type]
    code = forest(tmp_path)
    attack(store, AttackParams(model_uri=f"{code}:predict", system="forest", seed="6", **given))  # type: ignore[arg-type]
    found = analyze(
        store, AnalyzeParams(study="both", attack="suite", bundle=str(tmp_path / "bundle"), allow_mixed=True)
    )
    said = [sentence for sentence in found.report.headline if "by predictions alone" in sentence]
    assert len(said) == 1
    assert "gradients (A2E computed), a lead of forest external in robustness shows nothing" in said[0]
    comparison = next(part for part in found.report.sections if part.title == "Corrected comparison")
    assert said[0] in comparison.paragraphs
    assert any(
        "forest external can only be asked for predictions" in sentence for sentence in found.report.answer
    )
    methods = (tmp_path / "bundle" / "methods.tex").read_text()
    assert "APGD" in methods
    assert "forest external by Square (Andriushchenko et al. 2020) of 20 queries" in methods
    # What is not of the search must agree as ever.
    other = {"model_uri": f"{code}:predict", "system": "other", "seed": "6", "epsilons": ".01,.1", **given}
    attack(store, AttackParams(**other))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"not alike: .*; epsilons: "):
        analyze(store, AnalyzeParams(study="both", attack="suite", systems="A2E,other"))


def test_a_torch_module_of_code_is_attacked_by_its_gradients(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "import torch\n"
        "def build():\n"
        "    torch.manual_seed(1)\n"
        f"    return nn.Sequential(nn.Flatten(), nn.Linear({FRAMES * 149}, 8))\n"
    )
    params = AttackParams(model_uri=f"{tmp_path / 'mine.py'}:build", attack="apgd", steps=3, epsilon=0.01)
    run = store.get(attack(store, params)[0].run_id)
    assert run.metrics["adv/mae"] > run.metrics["clean/mae"] + 0.05
