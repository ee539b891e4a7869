"""Stage ``predict``: the emotions of songs, as a page and tables, and as a run where there is a store."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from rmer.data.csv_tables import write_table
from rmer.data.readers.song_files import find_songs
from rmer.digests import file_digest
from rmer.errors import DataErrors, UserError
from rmer.evaluation.fragility import fragility
from rmer.files import whole
from rmer.parameters import listed
from rmer.progress import progress
from rmer.report.listening.songs_page import HeardSong, songs_page
from rmer.stages.decided_precision import decided_precision
from rmer.stages.descriptions import description
from rmer.stages.predict.heard_song import as_json, effects_table, songs_table, windows_table
from rmer.stages.predict.predict_params import PredictParams
from rmer.stages.predict.seed_models import Hearer, find_models
from rmer.stages.run_names import run_name
from rmer.systems.devices import resolve_device
from rmer.tracking import Artifact, Outcome, Run, RunSpec, Stage, Store, Tag

TABLES = "tables"
FORMAT = 1  # of what is written; raise it when the same songs come out otherwise


@dataclass(frozen=True, eq=False)
class Predicted:
    """What came of ``predict``: songs, problems of other files, the page, and the run, if any."""

    songs: tuple[HeardSong, ...]
    problems: tuple[UserError, ...]
    page: Path
    outcome: Outcome | None


def predict(store: Store | None, params: PredictParams, places: Sequence[str] = ()) -> Predicted:
    """Predict every song among ``places`` (and ``params.songs``), write page and tables, and log them.

    A file that cannot be used is a problem of its own and stops nothing. Raises UserError where there is no
    song or no model, and DataErrors where no song can be used.
    """
    named = [*places, *listed(params.songs)]
    if not named:
        raise UserError("no song is named", where="predict", mend="Give audio files or folders")
    hearer = find_models(store, params)
    for text in filter(None, [hearer.note]):
        tqdm.write(f"Note: {text}", file=sys.stderr)
    files, problems = find_songs([Path(name) for name in named])
    songs = []
    with progress("songs", len(files), "song") as bar:
        for path in files:
            try:
                songs.append(_heard(path, hearer, params))
            except UserError as error:
                problems.append(error)
            bar.update(note=path.name[:40])
    if not songs:
        raise DataErrors([str(problem) for problem in problems], where="songs", mend="Give others")
    page = _write(Path(params.out_dir), songs, problems, hearer)
    outcome = (
        None
        if store is None
        else store.perform(
            _spec(hearer, params, songs), lambda run: _log(run, page.parent, songs, problems, hearer)
        )
    )
    return Predicted(tuple(songs), tuple(problems), page, outcome)


def _heard(path: Path, hearer: Hearer, params: PredictParams) -> HeardSong:
    hears, song = hearer.hears, hearer.read(path)
    found = hears(song, params.hop)
    if not params.fragility:
        return HeardSong(path, song, found)
    fragile = fragility(
        hears,
        song,
        found,
        domain=params.fragility_domain,
        move=params.fragility_move,
        frontend=hearer.file2spect.frontend,
        precision=decided_precision(params.precision, resolve_device(params.device)),
    )
    return HeardSong(path, song, found, fragile)


def _write(folder: Path, songs: list[HeardSong], problems: list[UserError], hearer: Hearer) -> Path:
    """Write page and tables into a folder, each whole or not at all, and return the page."""
    page = songs_page(songs, hearer.name, [str(problem) for problem in problems])
    try:
        for name, table in _tables(songs).items():
            with whole(folder / f"{name}.csv") as file:
                write_table(table, file)
        with whole(folder / "predictions.json") as file:
            content = json.dumps(as_json(songs, [str(problem) for problem in problems]), indent=2)
            file.write_text(content + "\n", encoding="utf-8")
        with whole(folder / Artifact.SONGS) as file:
            file.write_text(page, encoding="utf-8")
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise UserError(what, where=str(folder), mend="Give another out_dir") from error
    return folder / Artifact.SONGS


def _tables(songs: Sequence[HeardSong]) -> dict[str, pd.DataFrame]:
    tables = {"predictions": songs_table(songs), "windows": windows_table(songs)}
    if songs[0].found.explained:
        tables["effects"] = effects_table(songs)
    return tables


def _spec(hearer: Hearer, params: PredictParams, songs: Sequence[HeardSong]) -> RunSpec:
    count = len(songs)
    config = {
        "models": ",".join(hearer.weights),
        "songs": ",".join(sorted(file_digest(heard.path)[:16] for heard in songs))[:5000],
        "hop": params.hop,
        "fragility": params.fragility_domain if params.fragility else "",
        "fragility_move": params.fragility_move if params.fragility else 0.0,
        "format": FORMAT,
    }
    tags = {Tag.SYSTEM: hearer.name}
    if len(hearer.runs) == 1:
        tags[Tag.TRAIN_RUN_ID] = hearer.runs[0]
    name = run_name(hearer.name, f"hears {count} song{'s' if count > 1 else ''}")
    return RunSpec(Stage.PREDICT, name, config, tags, params.study or None)


def _log(
    run: Run, folder: Path, songs: Sequence[HeardSong], problems: Sequence[UserError], hearer: Hearer
) -> None:
    run.file(folder / Artifact.SONGS)
    run.file(folder / "predictions.json")
    tables = _tables(songs)
    for name, table in tables.items():
        run.table(table, f"{TABLES}/{name}.csv")
    run.ui_table(tables["predictions"].round(3), f"{TABLES}/predictions.json")
    run.params({"seeds": len(hearer.hears.models), "threads": torch.get_num_threads()})
    run.metrics({"predict/songs": len(songs), "predict/problems": len(problems)})
    seconds = sum(heard.song.seconds for heard in songs)
    run.metrics({"predict/minutes": seconds / 60})
    seeds = len(hearer.hears.models)
    models = {f"model {number + 1}": run.page(of=run_id) for number, run_id in enumerate(hearer.runs)}
    what = f"Emotions of {len(songs)} songs, {hearer.name}"
    result = f"{seeds} seeds, {seconds / 60:.1f} minutes of music."
    more = [f"Not used: {problem}" for problem in problems]
    run.note(description(what, result, {"page": run.page(Artifact.SONGS), **models}, more))


def there_is_a_store() -> bool:
    """Tell whether a store is named, or lies in this folder."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or Path("mlflow.db").exists()
