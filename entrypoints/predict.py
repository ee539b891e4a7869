"""``mlflow run . -e predict``: emotions of songs."""

from __future__ import annotations

import click
from tabulate import tabulate

from entrypoints.options import command, exit_code
from rmer.stages.predict.predict import Predicted, predict, there_is_a_store
from rmer.stages.predict.predict_params import PredictParams
from rmer.tracking import connect

SOME_NOT_USED = 3
HELP = "Predict the emotions of songs: audio files, and folders with all below them."


@command("predict", PredictParams, help=HELP, arguments="[FILES|FOLDERS]...", also={"model_uri": "--model"})
def cli(params: PredictParams, *places: str) -> int:
    store = None if params.model_uri and not there_is_a_store() else connect()
    done = predict(store, params, places)
    click.echo(_told(done))
    for problem in done.problems:
        click.echo(f"not used: {problem}", err=True)
    waiting = 0 if store is None else exit_code(store)
    return SOME_NOT_USED if done.problems else waiting


def _told(done: Predicted) -> str:
    found = done.songs[0].found
    rows = [
        [heard.path.name[:32], *(f"{value:.1f}" for value in heard.found.mean)]
        + ([heard.fragility.in_words] if heard.fragility else [])
        for heard in done.songs
    ]
    head = ["song", *found.emotions, *(["fragility"] if done.songs[0].fragility else [])]
    lines = [tabulate(rows, head, disable_numparse=True), f"page: {done.page}"]
    if done.outcome is not None:
        lines.append(f"run {done.outcome.run_id}" + (" (was logged before)" if done.outcome.skipped else ""))
    return "\n".join(lines)
