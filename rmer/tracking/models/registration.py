"""Models of runs under names of their own in MLflow's registry."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from rmer.errors import UserError

TAKEN = "RESOURCE_ALREADY_EXISTS"


def register_model(client: MlflowClient, run_id: str, name: str, alias: str) -> int:
    """Register the one model of a run under ``name``, point the alias at it, and return its version.

    A model that has a version of that name keeps it. Raises UserError where the run has no model, or several,
    or the registry refuses the name.
    """
    run = client.get_run(run_id)
    models = run.outputs.model_outputs if run.outputs else []
    if len(models) != 1:
        what = f"run {run_id} has {len(models) or 'no'} models"
        raise UserError(what, where="registration", mend="Name a train run of rmer")
    model = client.get_logged_model(models[0].model_id)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != TAKEN:
            mend = "Give a name without : and /"
            raise UserError(
                f"MLflow refuses the name {name!r}", where="parameter register", mend=mend
            ) from error
    known = client.search_model_versions(f"name='{name}'")
    place = model.artifact_location  # a search does not tell of which model a version is
    version = next((int(one.version) for one in known if one.source == place), None)
    if version is None:
        made = client.create_model_version(name, source=place, run_id=run_id, model_id=model.model_id)
        version = int(made.version)
    client.set_registered_model_alias(name, alias, str(version))
    return version
