"""What an analysis leaves for a paper: LaTeX that is well formed, figures, methods, runs, commands."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from attack_runs import EPSILONS, suite_run

from rmer.evaluation.checks.measurements import AttackedScores, PrecisionPair
from rmer.parameters import Parameters
from rmer.report.latex import latex_document, latex_table, latex_text
from rmer.report.methods import Methods, methods_sentences
from rmer.stages.analysis.analyze import Analysis, analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.analysis.reproduce import logged, reproduce_script
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.preprocess import PreprocessParams
from rmer.stages.train_params import TrainParams
from rmer.systems.catalogue import CATALOGUE, known_system
from rmer.tracking import Origin, RunRecord, RunSpec, Stage, Store, Tag

VERBS: dict[str, type[Parameters]] = {
    "preprocess": PreprocessParams,
    "train": TrainParams,
    "attack": AttackParams,
    "analyze": AnalyzeParams,
}


@pytest.fixture(scope="module")
def made(lasting_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Analysis, Path]:
    """A store, the analysis of a suite in it, and the folder of its bundle."""
    store, folder = lasting_store, tmp_path_factory.mktemp("bundle")
    for system, damage in {"A2E": 0.2, "A2M2E": 0.1}.items():
        for seed in (1, 2):
            trained = _train_run(store, system, seed)
            run_id = suite_run(store, "paper", system, seed, damage=damage, searches=searches(seed))
            store.set_tags(run_id, {Tag.TRAIN_RUN_ID: trained})
    return store, analyze(store, AnalyzeParams(study="paper", bundle=str(folder))), folder


def searches(seed: int) -> dict[float, PrecisionPair]:
    """PrecisionPair of both precisions, of which the reduced one misses a hundredth of ``seed`` per cent."""
    clean, found = AttackedScores(0.1, 0.1), 0.2 * (1 - seed / 1e4)
    return {
        epsilon: PrecisionPair(5, clean, AttackedScores(0.2, 0.2), AttackedScores(found, found))
        for epsilon in EPSILONS
    }


def _train_run(store: Store, system: str, seed: int) -> str:
    config: dict[str, Any] = {
        "system": system, "seed": seed, "epochs": 12, "lr": 0.0005, "batch_size": 8, "patience": 50,
        "train_protocol": "corrected", "split_scheme": "album", "precision": "bf16",
    }  # fmt: skip
    tags = {Tag.SYSTEM: system, Tag.SEED: str(seed), Tag.ORIGIN: Origin.COMPUTED}
    spec = RunSpec(Stage.TRAIN, f"{system} s{seed}", config, tags, "paper")
    return store.perform(spec, lambda run: None).run_id


def check_latex(text: str) -> None:
    """Fail where braces or environments do not match, or a row has another number of cells than columns."""
    plain = re.sub(r"\\[\\{}%&#$_]", lambda match: "  " if match[0] != r"\\" else match[0], text)
    depth = 0
    for character in plain:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0, text
    assert depth == 0, text
    assert plain.count("$") % 2 == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", plain):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    assert plain.isascii()
    columns = re.search(r"\\begin\{tabular\}\{([lc]+)\}", plain)
    for line in plain.splitlines() if columns else []:
        if line.endswith(r"\\"):
            spans = [int(width) for width in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert columns is not None
            assert line.count("&") + 1 + sum(spans) - len(spans) == len(columns[1]), line


def test_every_table_and_the_document_are_well_formed(made: tuple[Store, Analysis, Path]) -> None:
    _, _, folder = made
    tables = sorted((folder / "tables").glob("*.tex"))
    assert {"systems", "corrected-comparison", "sanity-checks", "precision-of-gradients"} <= {
        table.stem for table in tables
    }
    for file in [*tables, folder / "paper.tex", folder / "methods.tex"]:
        check_latex(file.read_text())
    document = (folder / "paper.tex").read_text()
    for kind, suffix in (("input", ".tex"), ("includegraphics[^{]*", "")):
        for name in re.findall(rf"\\{kind}\{{([^}}]+)\}}", document):
            assert (folder / f"{name}{suffix}").is_file(), name
    assert document.count(r"\input{tables/") == len(tables)


@pytest.mark.parametrize("broken", [r"\begin{table}", r"a } b", r"\textbf{a", "5 $ x", "Δ"])
def test_the_check_of_latex_finds_faults(broken: str) -> None:
    with pytest.raises((AssertionError, IndexError)):
        check_latex(broken)


def test_latex_of_hostile_text() -> None:
    text = latex_text(r"50 % of a_b & {c} \d $e #f ~g ^h <1 > 2 | ε ± Δ δ ∞")
    check_latex(text)
    assert r"50 \% of a\_b \& \{c\} \textbackslash{}d \$e \#f" in text
    check_latex(latex_table(pd.DataFrame({"a_b": ["x & y"], "MAE: Δ": [".1 ± .2"], "MAE: b": ["-"]}), "1 %"))
    check_latex(latex_document("A & B", ["a"], ["b_c"]))


def test_columns_of_a_group_stand_under_its_title() -> None:
    table = pd.DataFrame([["A2E", "1", ".10 ± .01", "-.5", "3.0e-08"]])
    table.columns = pd.Index(["System", "Seeds", "MAE: clean", "MAE: Δ", "p"])
    lines = latex_table(table, "Means.", "systems").splitlines()
    assert r" &  & \multicolumn{2}{c}{MAE} &  \\" in lines
    assert r"\cmidrule(lr){3-4}" in lines
    assert r"A2E & $1$ & $.10 \pm .01$ & $-.5$ & $3.0e-08$ \\" in lines
    assert r"\label{tab:systems}" in lines


def test_the_report_shows_what_the_precision_of_gradients_costs(made: tuple[Store, Analysis, Path]) -> None:
    store, analysis, _ = made
    table = store.read_table(analysis.outcome.run_id, "tables/precision.csv")
    assert table[["epsilon", "models"]].to_numpy().tolist() == [[0.002, 4], [0.01, 4], [0.05, 4]]
    assert table["mae_worst_loss"].tolist() == pytest.approx([2e-4] * 3)
    titles = [section.title for section in analysis.report.sections]
    assert titles[titles.index("Sanity checks") + 1] == "Precision of gradients"


def test_figures_are_there_as_pdf_and_svg(made: tuple[Store, Analysis, Path]) -> None:
    _, analysis, folder = made
    for name in analysis.report.figures:
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert b"<svg" in (folder / "figures" / f"{name}.svg").read_bytes()


def test_the_run_holds_the_bundle(made: tuple[Store, Analysis, Path]) -> None:
    store, analysis, folder = made
    for file in ("reproduce.sh", "tables/systems.tex", "figures/curves.pdf"):
        logged_file = store.download(analysis.outcome.run_id, f"bundle/{file}")
        assert logged_file.read_bytes() == (folder / file).read_bytes()


def test_runs_and_environment(made: tuple[Store, Analysis, Path]) -> None:
    store, _, folder = made
    with (folder / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["attack_run_id"] for row in rows} == {
        run.run_id for run in store.find(Stage.ATTACK, study="paper")
    }
    assert {(row["system"], row["seed"], row["tier"]) for row in rows} >= {("A2E", "1", "quick")}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["numpy"]
    assert environment["machine"]["cores"] > 0


def test_methods_are_filled_from_the_runs(made: tuple[Store, Analysis, Path]) -> None:
    text = " ".join((made[2] / "methods.tex").read_text().split())
    for fact in (
        "12 test clips of 6 albums",
        "A2E, A2M2E were trained under the corrected protocol, each with the training seeds 1, 2",
        "learning rate 0.0005, batches of 8, at most 12 epochs, patience 50",
        "L-inf balls of epsilon 0.002, 0.01 and 0.05 a cell",
        "APGD (Croce and Hein 2020) of 20 steps: from 2 starts",
        "Gradients were computed in bf16, perturbations, comparisons and scores in float32; of the MAE that "
        "float32 gradients reach from the same starts, they missed .02 "
        r"\% at most (first 5 clips of 4 of 4 runs). Budgets",
        "reported at epsilon 0.01",
        "Holm's correction over all 2 comparisons",
        "within .02 (MAE) and .05 (correlation)",
    ):
        assert fact in text


def test_methods_of_a_published_attack_say_that_no_budget_held() -> None:
    facts = Methods(
        clips=36, albums=36, split="test", split_scheme="published", systems={"A2E": ["6"], "A2M2E": ["21"]},
        train_protocol="published", attack_protocol="published", reference="A2M2E", bootstrap_seed=42,
        comparisons=0, budget_held=False, margins={},
        attack={"attack": "published", "norms": "linf", "epsilon": "0.001"},
    )  # fmt: skip
    text = " ".join(methods_sentences(facts))
    assert "A2E (seeds 6); A2M2E (seeds 21)" in text
    assert "a budget of epsilon 0.001 (L-inf) in standardised units, which was not enforced" in text
    assert "Holm" not in text


def commands(script: str) -> list[tuple[str, dict[str, str]]]:
    """The rmer commands of a script as verb and options."""
    found = []
    for line in script.splitlines():
        if line.startswith("rmer "):
            words = shlex.split(line)[1:]
            options = dict(zip([word.removeprefix("--") for word in words[1::2]], words[2::2], strict=True))
            found.append((words[0], options))
    return found


def test_commands_are_a_script_that_the_command_line_accepts(made: tuple[Store, Analysis, Path]) -> None:
    file = made[2] / "reproduce.sh"
    subprocess.run(["bash", "-n", str(file)], check=True)
    found = commands(file.read_text())
    assert [verb for verb, _ in found] == ["train"] * 4 + ["attack"] * 4 + ["analyze"]
    for verb, options in found:
        VERBS[verb].from_mapping(options)
    trained = TrainParams.from_mapping(found[0][1])
    assert (trained.system, trained.epochs, trained.precision, trained.study) == ("A2E", 12, "bf16", "paper")
    attacked = AttackParams.from_mapping(found[4][1])
    assert (attacked.attack, attacked.tier or "quick") == ("suite", "quick")
    assert attacked.all_epsilons == [0.002, 0.01, 0.05]
    assert (attacked.system, attacked.seed, attacked.train_protocol) == ("A2E", "1", "corrected")
    assert found[-1][1] == {"study": "paper", "bundle": "bundle"}


def record(tags: dict[str, str], params: dict[str, str]) -> RunRecord:
    return RunRecord("r", "run", "FINISHED", "1", 0, 1, tags, {f"cfg.{k}": v for k, v in params.items()}, {})


def test_commands_leave_defaults_out_and_quote_what_is_odd() -> None:
    values = {"frames": "80", "scale_max": "10", "decoder": "soundfile", "targets": "my joy,it's"}
    data = record({Tag.STUDY: "a b"}, values)
    assert logged(PreprocessParams, data) == {"frames": "80", "targets": "my joy,it's"}
    (line,) = [
        line for line in reproduce_script([data], [], [], AnalyzeParams()).splitlines() if "prepro" in line
    ]
    assert shlex.split(line)[2:] == [
        "--soundtracks_dir", "$1", "--targets", "my joy,it's", "--frames", "80", "--study", "a b",
    ]  # fmt: skip


def test_imported_logs_are_imported_and_not_trained() -> None:
    tags = {Tag.ORIGIN: Origin.IMPORTED, Tag.STUDY: "published", Tag.ATTACK: "published"}
    script = reproduce_script([], [record(tags, {})], [record(tags, {}), record(tags, {})], AnalyzeParams())
    assert [verb for verb, _ in commands(script)] == ["import-published", "analyze"]
    assert "usage: bash reproduce.sh PUBLISHED_CLONE\n" in script


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("aA2M2E w.3", {"system": "aA2M2E", "task_loss_weight": "0.3"}),
        ("aplacebo", {"system": "placebo", "adversarial": "true"}),
        ("aplacebo w.3", {"system": "placebo", "task_loss_weight": "0.3", "adversarial": "true"}),
        ("A2B2E", {"system": "A2B2E"}),
        ("theirs", {"system": "theirs"}),
    ],
)
def test_a_varied_system_is_made_by_what_its_run_logged(name: str, given: dict[str, str]) -> None:
    system = known_system(name) or CATALOGUE["A2E"]
    logged = {"arch": system.arch, "task_loss_weight": f"{system.task_loss_weight}"}
    logged["adversarial"] = f"{system.adversarial}".lower()
    logged["permuted_concepts"] = f"{system.permuted_concepts}".lower()
    tags = {Tag.SYSTEM: name, Tag.SEED: "6", Tag.ORIGIN: Origin.COMPUTED}
    (_, options), _ = commands(reproduce_script([], [record(tags, logged)], [], AnalyzeParams()))
    assert options == {**given, "seed": "6"}
    if name != "theirs":
        assert TrainParams.from_mapping(options).resolve_system() == system


def test_models_of_others_are_attacked_as_they_were_and_not_trained() -> None:
    tags = {Tag.SYSTEM: "theirs", Tag.SEED: "1", Tag.TRAIN_PROTOCOL: "corrected", Tag.SPLIT_SCHEME: "album"}
    tags |= {Tag.ORIGIN: Origin.EXTERNAL, Tag.ATTACK: "pgd", Tag.MODEL_URI: "models:/theirs/1"}
    (verb, options), _ = commands(
        reproduce_script([], [record(tags, {})], [record(tags, {})], AnalyzeParams())
    )
    assert (verb, options["model_uri"], options["system"]) == ("attack", "models:/theirs/1", "theirs")
    assert (options["train_protocol"], options["split_scheme"]) == ("corrected", "album")
