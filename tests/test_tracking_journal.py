"""Journals on disk: what an earlier version left in the spool is still sent."""

from __future__ import annotations

import json

import pytest
from mlflow import MlflowClient

from rmer.tracking import Store
from rmer.tracking.delivery import journal as journals
from rmer.tracking.delivery.journal import Journal, left_behind, spool
from rmer.tracking.delivery.operations import Beat

# One operation of each kind, as versions before operations were types wrote them.
OLD = """\
{"do": "params", "values": {"cfg.lr": "0.1"}}
{"do": "metrics", "values": {"val/corr": 0.5, "val/mae": NaN}, "time": 1000, "step": 3, "model": null}
{"do": "metrics", "values": {"test/mae": 0.25}, "time": 1001, "step": 0}
{"do": "tags", "values": {"mlflow.note.content": "A note"}}
{"do": "tag_other", "run": "OTHER", "tags": {"rmer.link": "here"}}
{"do": "artifact", "file": "files/000001/a.txt", "path": "texts"}
{"do": "table", "file": "files/000002/t.json", "path": "tables", "name": "tables/t.json"}
{"do": "dataset", "dataset": {"name": "demo", "digest": "1f", "source_type": "rmer", "source": "{}", \
"schema": null, "profile": null}, "context": "training"}
{"do": "model", "file": "files/000003/model", "name": "model", "step": 7, "params": {"seed": "6"}, "tags": {}}
{"do": "metrics", "values": {"test/corr": 0.75}, "time": 1002, "step": 7, "model": "model"}
{"do": "terminate", "status": "FINISHED", "time": 2000, "tags": {"rmer.digests": "none"}}
"""
FILES = {
    "000001/a.txt": "text",
    "000002/t.json": '{"columns": ["a"], "data": [[1]]}',
    "000003/model/MLmodel": "artifact_path: model\nflavors: {}\nmodel_uuid: m-1\n",
}


def leave_behind(uri: str, run_id: str, other: str) -> None:
    folder = spool(uri) / run_id
    for name, content in FILES.items():
        (folder / "files" / name).parent.mkdir(parents=True)
        (folder / "files" / name).write_text(content)
    (folder / "operations.jsonl").write_text(OLD.replace("OTHER", other))


def test_a_journal_of_an_earlier_version_is_sent(store: Store) -> None:
    run_id, other = (
        store.client.create_run(store.experiment_id).info.run_id for _ in ("interrupted", "linked")
    )
    leave_behind(store.uri, run_id, other)
    result = store.sync()
    assert (result.runs, result.records, result.left, result.refused) == (1, 11, 0, [])

    client: MlflowClient = store.client
    run = client.get_run(run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", 2000)
    assert run.data.params == {"cfg.lr": "0.1"}
    assert store.metric_history(run_id, "val/corr") == [(3, 0.5)]
    assert (run.data.metrics["test/mae"], run.data.metrics["test/corr"]) == (0.25, 0.75)
    assert (run.data.tags["mlflow.note.content"], run.data.tags["rmer.digests"]) == ("A note", "none")
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "tables/t.json", "type": "table"}]
    assert client.get_run(other).data.tags["rmer.link"] == "here"
    assert store.download(run_id, "texts/a.txt").read_text() == "text"
    assert [item.dataset.digest for item in run.inputs.dataset_inputs] == ["1f"]
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, model.params, output.step) == ("model", {"seed": "6"}, 7)
    assert [metric.key for metric in model.metrics] == ["test/corr"]


def test_what_was_refused_before_the_run_went_on_is_kept() -> None:
    for reason in ("first", "second", "third"):
        journal = Journal("sqlite:///store.db", "run")
        journal.refuse(Beat(), reason)
        journal.close()
    kept = sorted(spool("sqlite:///store.db").glob("run.*"))
    assert [path.name for path in kept] == ["run.refused.jsonl", "run.refused1.jsonl", "run.refused2.jsonl"]
    assert [json.loads(path.read_text())["reason"] for path in kept] == ["first", "second", "third"]


def test_a_look_at_what_is_left_leaves_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    Journal("sqlite:///store.db", "run").close()
    monkeypatch.setattr(journals, "waiting_runs", lambda uri: ["run"])  # seen just before it was sent
    assert left_behind("sqlite:///store.db") == 0
    assert [path.name for path in spool("sqlite:///store.db").iterdir()] == ["store.txt"]
