"""Databases of stores: made whole or not at all, and what is wrong with one that cannot be used."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mlflow
import sqlalchemy
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from filelock import FileLock
from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.pool import NullPool

from rmer.errors import UserError
from rmer.redaction import redacted
from rmer.tracking.locations import sqlite_file, sqlite_uri, store_key
from rmer.tracking.private import keep_private, private_folder

# A build that was killed leaves a folder of this kind beside the store: nobody else names files so.
UNFINISHED = ".unfinished-store"
_JOURNALS = ("-journal", "-wal")
_ADVISORY = 0x726D6572  # "rmer", the number of the lock inside PostgreSQL


@contextmanager
def prepared(uri: str, artifacts: str = "") -> Iterator[None]:
    """Make the sqlite store of a URI where there is none, or check the database that is there.

    MLflow makes a database in hundreds of steps, and two processes that make one at once break it. The body
    of the ``with`` statement, which may make one too, is therefore run by one process at a time. The default
    experiment of a new sqlite store keeps its artifacts in ``artifacts``, else beside the file. Raises
    :class:`UserError` where the database is unfinished, of another version of MLflow, or of another program.
    """
    is_file = uri.startswith("sqlite:")
    if is_file and not _tables(uri):
        _make(sqlite_file(uri).resolve(), artifacts)
    with nullcontext() if is_file else _one_at_a_time(uri):
        _check(uri)
        yield


def _make(file: Path, artifacts: str) -> None:
    """Build a sqlite store beside its place and move it there when it is complete.

    ``kill -9`` at any moment leaves no store, or a whole one. The lock beside it holds for all accounts.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        what = f"its folder cannot be made ({error.strerror})"
        raise UserError(what, where=str(file), mend="Name another place") from error
    _refuse_stale_journals(file)
    lock = FileLock(file.with_name(f".{file.name}.lock"))
    with lock:
        for left in file.parent.glob(f".{file.name}.*{UNFINISHED}"):
            shutil.rmtree(left)  # nobody is at work on it: who makes a store holds the lock
        if not _tables(sqlite_uri(file)):
            _build(file, artifacts)
        Path(lock.lock_file).unlink(missing_ok=True)  # waiting processes notice that the file is another


def _build(file: Path, artifacts: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix=f".{file.name}.", suffix=UNFINISHED, dir=file.parent))
    try:
        new = folder / file.name
        # Of the default experiment, too, the artifacts belong beside the file.
        place = artifacts or str(file.parent / "mlruns")
        SqlAlchemyStore(sqlite_uri(new), place).engine.dispose()  # type: ignore[no-untyped-call]
        keep_private(new)
        new.replace(file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_stale_journals(file: Path) -> None:
    # sqlite would play the journal of a database that is gone into the new one.
    stale = [str(file) + suffix for suffix in _JOURNALS if Path(str(file) + suffix).exists()]
    if stale and not file.exists():
        mend = "Bring the database back, or move the journal away"
        raise UserError("the journal of a database that is gone lies there", where=stale[0], mend=mend)


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Let one process of this account in; into PostgreSQL, one of all machines."""
    with FileLock(private_folder("locks") / f"{store_key(uri)}.lock"):
        if not uri.startswith("postgresql"):
            yield
            return
        with _connection(uri) as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_ADVISORY})"))
            yield  # the lock goes with the connection


def _check(uri: str) -> None:
    """Raise :class:`UserError` where a database has tables, but not those of this version of MLflow."""
    tables = _tables(uri)
    ours = tables & set(Base.metadata.tables)
    if not ours:
        if tables - {"alembic_version"}:
            what = f"the database belongs to another program (tables {', '.join(sorted(tables)[:3])})"
            raise UserError(what, where=redacted(uri), mend="Name another database")
        return
    with _connection(uri) as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        unused = "experiments" not in ours or not connection.scalar(
            sqlalchemy.text("SELECT count(*) FROM experiments")
        )
    if revision != _migrations().get_current_head() and not (unused and not uri.startswith("sqlite:")):
        raise _unfinished(uri) if unused else _other_version(uri, revision)


def _unfinished(uri: str) -> UserError:
    what = "somebody was interrupted while making this store; it holds no runs and cannot be completed"
    return UserError(what, where=redacted(uri), mend=f"Delete {sqlite_file(uri)} and try again")


def _other_version(uri: str, revision: str | None) -> UserError:
    age, mend = "an older", f"While nothing uses it: {_upgrade(uri)}"
    try:
        _migrations().get_revision(revision or "base")
    except CommandError:
        age, mend = "a newer", "Install that version of MLflow, or newer"
    what = f"the store was made by {age} MLflow than {mlflow.__version__} (schema {revision})"
    return UserError(what, where=redacted(uri), mend=mend)


def _upgrade(uri: str) -> str:
    """Return the commands that bring a store up to date; an interrupted upgrade cannot go on."""
    if not uri.startswith("sqlite:"):
        return "back it up, then `mlflow db upgrade <its address>`"
    file = sqlite_file(uri)
    return f"`cp {file} {file}.new && mlflow db upgrade {sqlite_uri(file)}.new && mv {file}.new {file}`"


def _tables(uri: str) -> set[str]:
    """Return the names of a database's tables; of a sqlite file that is not there, none."""
    if uri.startswith("sqlite:") and not sqlite_file(uri).exists():
        return set()
    with _connection(uri) as connection:
        return set(sqlalchemy.inspect(connection).get_table_names())


@contextmanager
def _connection(uri: str) -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


def _migrations() -> ScriptDirectory:
    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
