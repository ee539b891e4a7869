"""Artifacts as local files: in place where the store is local, else a copy kept under ``RMER_HOME``.

Whichever it is, it is compared with the digests that its run logged each time that it is asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import LoggedModel
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from rmer.errors import UserError
from rmer.redaction import redacted
from rmer.tracking import integrity
from rmer.tracking.find import FINISHED
from rmer.tracking.locations import check_usable, digest, store_key
from rmer.tracking.private import private_folder

ONE_MODEL = "model"


@dataclass(frozen=True)
class _Logged:
    """What is known of an artifact: who has it, whether that may change, and the digests of its files."""

    owner: str
    final: bool = False  # whether a copy may be kept
    path: str = ""
    run_id: str = ""
    run_name: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)

    def require(self, found: Path) -> Path:
        """Return what was found; raise :class:`UserError` where it is not what the run logged."""
        for name in integrity.changed(found, self.digests):
            file = f"{self.path}/{name}" if name else self.path
            what = f"{file} is not the file that the run logged"
            raise integrity.altered(self.run_id, self.run_name, what)
        return found

    def is_at(self, copy: Path) -> bool:
        """Tell whether there is a copy that may be used."""
        return self.final and copy.exists() and not integrity.changed(copy, self.digests)


class Downloads:
    """Fetches artifacts and models of one store."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client, self._uri = client, uri

    def artifact(self, run_id: str, path: str) -> Path:
        """Return a local path of a run's artifact.

        Raises :class:`UserError` where it has none there, or another than it logged.
        """
        run = self._client.get_run(run_id)
        return self._local_or_copy(run.info.artifact_uri, path, _of_run(run, path))

    def model(self, uri: str) -> Path:
        """Return a local folder of a model: ``models:/...``, ``runs:/<run>/<name>``, a path or other URI."""
        if uri.startswith("runs:/"):
            run_id, _, name = uri.removeprefix("runs:/").partition("/")
            return self._model_of_run(run_id, name)
        if uri.startswith("models:/"):
            return self._registered(uri.removeprefix("models:/"))
        check_usable(uri, "models")
        return self._local_or_copy(uri, "", _Logged("model"))

    def _model_of_run(self, run_id: str, name: str) -> Path:
        run = self._client.get_run(run_id)
        outputs = run.outputs.model_outputs if run.outputs else []
        models = [self._client.get_logged_model(output.model_id) for output in outputs]
        named = [model for model in models if model.name == name]
        # A training calls its model after its system; "model" stands for the one model of any run.
        named = named or (models if name == ONE_MODEL and len(models) == 1 else [])
        if named:
            return self._logged(named[0])
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
        run = self._source_run(model)
        logged = _of_run(run, model.name) if run else _Logged(f"model {model.model_id}")
        logged = replace(logged, final=model.status == "READY")
        return self._local_or_copy(model.artifact_location, "", logged)

    def _source_run(self, model: LoggedModel) -> MlflowRun | None:
        """Return the run that logged a model, unless it is gone for good."""
        try:
            return self._client.get_run(model.source_run_id) if model.source_run_id else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _local_or_copy(self, root: str, path: str, logged: _Logged) -> Path:
        if urlsplit(root).scheme in ("", "file"):
            folder = Path(local_file_uri_to_path(root))  # type: ignore[no-untyped-call]
            return logged.require(_existing(folder.absolute() / path, logged.owner))
        uri = f"{root.rstrip('/')}/{path}".rstrip("/")
        folder = private_folder("cache", digest(f"{store_key(self._uri)} {redacted(uri)}"))
        cached = folder / uri.rpartition("/")[2]
        if logged.is_at(cached):
            return cached
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            fetched = logged.require(self._fetch(uri, fresh, logged.owner))
            if logged.is_at(cached):  # another process was quicker
                return cached
            if cached.exists():
                cached.rename(Path(fresh) / "outdated")
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


def _of_run(run: MlflowRun, path: str) -> _Logged:
    return _Logged(
        owner=f"run {run.info.run_id}",
        final=run.info.status == FINISHED,
        path=path,
        run_id=run.info.run_id,
        run_name=run.info.run_name or "",
        digests=integrity.logged(run.data.tags, path),
    )


def _existing(path: Path, where: str) -> Path:
    if not path.exists():
        raise UserError(f"there is no artifact {path}", where=where, mend="Check the run and the path")
    return path
