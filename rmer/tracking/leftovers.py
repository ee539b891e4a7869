"""What a process that was killed while it uploaded left among the artifacts of a local store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from mlflow.utils.file_utils import local_file_uri_to_path

# MLflow copies an artifact under such a name and renames it then.
PARTIAL = ".artifact.uploading.*"


def clear_uploads(uri: str) -> None:
    """Delete unfinished uploads from a folder of artifacts; of servers' folders, that is not ours to do.

    For the one process that may write there.
    """
    if urlsplit(uri).scheme in ("", "file"):
        folder = Path(local_file_uri_to_path(uri))  # type: ignore[no-untyped-call]
        for path in folder.rglob(PARTIAL):
            path.unlink(missing_ok=True)
