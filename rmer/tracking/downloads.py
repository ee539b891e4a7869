"""Artifacts as local files: in place where the store is local, else a copy kept under ``RMER_HOME``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import requests
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from packaging.version import Version

from rmer.data.tables import TEXT_COLUMNS
from rmer.errors import UserError
from rmer.tracking.find import FINISHED
from rmer.tracking.locations import check_usable, digest, home

# From pandas 3.1 on, reading is always exact and the option is deprecated.
_EXACT: dict[str, Any] = (
    {} if Version(pd.__version__) >= Version("3.1") else {"float_precision": "round_trip"}
)


class Downloads:
    """Fetches artifacts and models of one store."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client, self._uri = client, uri

    def artifact(self, run_id: str, path: str) -> Path:
        """Return a local path of a run's artifact; raises :class:`UserError` when it has none there."""
        info = self._client.get_run(run_id).info
        return self._local_or_copy(info.artifact_uri, path, f"run {run_id}", keep=info.status == FINISHED)

    def model(self, uri: str) -> Path:
        """Return a local folder of a model: ``models:/...``, ``runs:/<run>/<name>``, a path or other URI."""
        if uri.startswith("runs:/"):
            run_id, _, name = uri.removeprefix("runs:/").partition("/")
            return self._model_of_run(run_id, name)
        if uri.startswith("models:/"):
            return self._registered(uri.removeprefix("models:/"))
        check_usable(uri, "models")
        return self._local_or_copy(uri, "", "model", keep=False)

    def _model_of_run(self, run_id: str, name: str) -> Path:
        run = self._client.get_run(run_id)
        for output in run.outputs.model_outputs if run.outputs else []:
            model = self._client.get_logged_model(output.model_id)
            if model.name == name:
                return self._logged(model)
        return self.artifact(run_id, name)  # as older MLflow clients log models

    def _registered(self, name: str) -> Path:
        if name.startswith("m-") and "/" not in name:
            return self._logged(self._client.get_logged_model(name))
        if "@" in name:
            version = self._client.get_model_version_by_alias(*name.split("@", 1))
        else:
            version = self._client.get_model_version(*name.rsplit("/", 1))
        return self.model(f"models:/{version.model_id}" if version.model_id else str(version.source))

    def _logged(self, model: LoggedModel) -> Path:
        where = f"model {model.model_id}"
        return self._local_or_copy(model.artifact_location, "", where, keep=model.status == "READY")

    def _local_or_copy(self, root: str, path: str, where: str, *, keep: bool) -> Path:
        if urlsplit(root).scheme in ("", "file"):
            return _existing(_as_path(root) / path, where)
        uri = f"{root.rstrip('/')}/{path}".rstrip("/")
        cached = home() / "cache" / digest(f"{self._uri} {uri}") / uri.rpartition("/")[2]
        if keep and cached.exists():
            return cached
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
            fetched = self._fetch(uri, folder, where)
            if keep and cached.exists():  # another process was quicker
                return cached
            if cached.exists():
                cached.rename(Path(folder) / "outdated")
            fetched.rename(cached)
        return cached

    def _fetch(self, uri: str, folder: str, where: str) -> Path:
        try:
            fetched = Path(download_artifacts(uri, dst_path=folder, tracking_uri=self._uri))
        except (MlflowException, requests.HTTPError, OSError) as error:
            # MLflow reports what is absent as it reports a server's failure: only the listing tells.
            if self._is_listed(uri):
                raise
            mend = "Check the run and the path"
            raise UserError(f"there is no artifact {uri}", where=where, mend=mend) from error
        return _existing(fetched, where)

    def _is_listed(self, uri: str) -> bool:
        folder, _, name = uri.rpartition("/")
        entries = list_artifacts(artifact_uri=folder, tracking_uri=self._uri) or []
        return any(entry.path.rpartition("/")[2] == name for entry in entries)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV table with every digit; names such as clip ids stay text, empty text stays empty."""
    columns = pd.read_csv(path, nrows=0).columns
    text = [column for column in columns if column in TEXT_COLUMNS]
    table: pd.DataFrame = pd.read_csv(path, dtype=dict.fromkeys(text, str), **_EXACT)
    return table.fillna(dict.fromkeys(text, ""))


def _as_path(uri: str) -> Path:
    return Path(local_file_uri_to_path(uri)).absolute()  # type: ignore[no-untyped-call]


def _existing(path: Path, where: str) -> Path:
    if not path.exists():
        raise UserError(f"there is no artifact {path}", where=where, mend="Check the run and the path")
    return path
