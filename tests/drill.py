"""A drill: kills, faults and full disks at random moments; afterwards everything must be there, once.

    python tests/drill.py --seed 7 --kills 3 --rounds 2

A small study is done once in peace. Then the same commands are done again while processes are killed, calls
harmed and disks filled up, each command again and again until it succeeds, and what the stores hold is
compared. Moments and faults are drawn by the seed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from census import Census, Differences, compare, store_problems, take_census
from faulty_proxy import Fault, faulty_proxy
from forked_commands import Command, run
from mlflow.exceptions import MlflowException
from published_clone import write_clone
from servers import mlflow_server
from small_disks import small_disk
from sqlalchemy.exc import SQLAlchemyError

WORKERS = "--engine local --jobs_at_once 2 --job_cpus 1"
# Every stage with its command, in an order in which each finds what it needs.
COMMANDS = {
    "demo_data": "demo-data --out_dir data --clips 16 --seconds 2",
    "preprocess": "preprocess --soundtracks_dir data --frames 40 --workers 1 --study drill",
    "train": "train --system A2M2E --epochs 3 --width .25 --study drill",
    "attack": "attack --attack pgd --steps 3 --study drill",
    "train_adversarial": "train --system aA2E --epochs 5 --width .25 --adversarial_iterations 2 "
    "--study drill",
    "suite": "attack --attack suite --system aA2E --epsilons 0.01 --study drill",
    "analyze": "analyze --attack pgd --systems A2M2E --study drill",
    "main": "main --soundtracks_dir data --frames 40 --workers 1 --systems A2E --seeds 6 --epochs 1 "
    f"--attacks pgd --steps 1 --study small {WORKERS}",
    "sweep": f"sweep --attack '{{attack: noise, draws: 2}}' --study drill {WORKERS}",
    "import_published": "import-published --source clone",
}
STAGES = {stage: shlex.split(text) for stage, text in COMMANDS.items()}
WITH_WORKERS = ("main", "sweep")
SERVED = ("preprocess", "train", "attack")
# One call in five comes to harm.
FAULTS = (
    Fault("status", share=0.05),
    Fault("drop", share=0.05),
    Fault("lose", share=0.05),
    Fault("late", share=0.03, status=504),
    Fault("cut", share=0.02),
)
MOST_TRIES = 40
DISK = "400m"
PAUSE_SECONDS = 1.0
KILLED = -9


@dataclass
class Tally:
    """What was done to a stage and what became of it."""

    kills: int = 0
    faults: int = 0
    tries: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    differences: Differences = field(default_factory=Differences)

    def row(self) -> dict[str, float]:
        """Return the numbers, to be shown."""
        found = {kind: len(lines) for kind, lines in vars(self.differences).items()}
        counts = {name: self.counts[name] for name in ("runs", "points", "files")}
        done = {"kills": self.kills, "faults": self.faults, "tries": self.tries}
        return {**done, **counts, **found, "seconds": round(self.seconds, 1)}


class Calm:
    """Does no harm; what does derives from it."""

    def before(self, tally: Tally) -> None:
        """Do harm before a command is started."""

    def during(self, command: Command, tally: Tally) -> None:
        """Do harm to a command that has just been started."""


@dataclass
class Kills(Calm):
    """Kills the whole group or a worker, at moments of a command's usual ``seconds``, ``left`` times."""

    seconds: float
    left: int
    draw: random.Random
    workers: bool = False

    def during(self, command: Command, tally: Tally) -> None:
        """Kill it at a random moment, unless it ends before."""
        if not self.left or command.wait(self.draw.uniform(0, self.seconds)) is not None:
            return
        self.left -= 1
        tally.kills += 1
        if not (self.workers and self.draw.random() < 0.5 and command.kill_a_worker(self.draw)):
            command.kill()


@dataclass
class Fillings(Calm):
    """Fills a disk up to a random rest with ``file``, ``left`` times, and empties it then."""

    file: Path
    left: int
    draw: random.Random

    def before(self, tally: Tally) -> None:
        """Fill the disk, or make room."""
        self.file.unlink(missing_ok=True)
        if self.left:
            self.left -= 1
            tally.faults += 1
            free = shutil.disk_usage(self.file.parent).free
            with self.file.open("wb") as file:
                rest = int(2 ** self.draw.uniform(10, 27))  # few bytes as often as many
                os.posix_fallocate(file.fileno(), 0, max(1, free - rest))


@dataclass(frozen=True)
class World:
    """A folder to work in, with its own store, RMER_HOME and log."""

    folder: Path
    uri: str
    database: Path
    home: Path

    @classmethod
    def make(cls, folder: Path, uri: str = "", database: Path | None = None) -> World:
        """Return a world with a sqlite store of its own, unless it is given another."""
        folder.mkdir(parents=True, exist_ok=True)
        file = database or folder / "mlflow.db"
        return cls(folder, uri or f"sqlite:///{file}", file, folder / "home")

    @property
    def log(self) -> Path:
        """What the commands print; beside the folder, which may be full."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def start(self, arguments: Sequence[str]) -> Command:
        """Start a command here."""
        return Command(arguments, self.folder, self._environment(), self.log)

    def run(self, arguments: Sequence[str]) -> tuple[int | None, float]:
        """Run a command here to its end; return its exit code and seconds."""
        return run(arguments, self.folder, self._environment(), self.log)

    def take_census(self) -> Census:
        """Read the store, at its file even where there is a server."""
        return take_census(f"sqlite:///{self.database}", self.database)

    def problems(self) -> Differences:
        """Return what is wrong with files: of the store, left behind at work, tracebacks."""
        places = [self.home / "spool", self.home / "work"]
        left = [path for place in places for path in place.glob("*/*") if path.is_dir()]
        names = [f"left behind: {path.relative_to(self.folder)}" for path in left]
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        traces = [f"traceback in {self.log}"] * text.count("Traceback (most recent call last)")
        return Differences(broken=[*store_problems(self.database), *names, *traces])

    def _environment(self) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("MLFLOW_", "RMER_"))}
        own = {"MLFLOW_TRACKING_URI": self.uri, "RMER_HOME": str(self.home), "RMER_DRAIN_SECONDS": "2"}
        return {**kept, **own, "OMP_NUM_THREADS": "1"}


@dataclass
class Peace:
    """The study done in peace: seconds a stage, and what the store held after each."""

    world: World
    seconds: dict[str, float]
    censuses: dict[str, Census]


def study_in_peace(folder: Path, stages: Sequence[str] = tuple(STAGES)) -> Peace:
    """Do these stages undisturbed; raises RuntimeError where one fails."""
    world = _with_clone(World.make(folder))
    peace = Peace(world, {}, {})
    world.run(["--version"])  # the first command of all waits for imports
    for stage in stages:
        code, peace.seconds[stage] = world.run(STAGES[stage])
        if code != 0:
            raise RuntimeError(f"{stage} failed in peace ({code}): see {world.log}")
        if world.database.exists():
            peace.censuses[stage] = world.take_census()
    return peace


def drill_stages(folder: Path, peace: Peace, kills: int, draw: random.Random) -> dict[str, Tally]:
    """Do the stages that were done in peace with kills; the store is compared after the last."""
    world = _with_clone(World.make(folder))
    tallies = {stage: Tally() for stage in peace.seconds}
    for stage, tally in tallies.items():
        _insist(world, STAGES[stage], tally, Kills(peace.seconds[stage], kills, draw, stage in WITH_WORKERS))
    last = tallies[stage]
    _judge(last, world, peace.censuses[stage])
    last.differences += _compare_data(folder / "data", peace.world.folder / "data")
    return tallies


def drill_creation(folder: Path, kills: int, draw: random.Random) -> Tally:
    """Kill commands while they make a new sqlite store; the next command must find or make a whole one."""
    peace = World.make(folder / "peace")
    peace.run(["--version"])  # the first command of all waits for imports
    code, seconds = peace.run(["sync"])
    assert code == 0, peace.log
    tally = Tally()
    for number in range(kills):
        world = World.make(folder / str(number))
        _insist(world, ["sync"], tally, Kills(seconds, 1, draw))
        _judge(tally, world, peace.take_census())
        there, expected = (sorted(path.name for path in each.folder.iterdir()) for each in (world, peace))
        if there != expected:
            tally.differences.broken.append(f"{world.folder} holds {there} instead of {expected}")
    return tally


def drill_proxy(folder: Path, peace: Peace, kills: int, draw: random.Random) -> Tally:
    """Do some stages on a server of whose calls one in five comes to harm, with kills."""
    tally = Tally()
    with mlflow_server(folder / "server") as server:
        with faulty_proxy(server.uri, FAULTS, seed=draw.randrange(2**31)) as proxy:
            world = _with_data(World.make(folder, proxy.uri, server.folder / "mlflow.db"), peace)
            for stage in SERVED:
                _insist(world, STAGES[stage], tally, Kills(peace.seconds[stage], kills, draw))
            tally.faults += proxy.harmed().total()
        _judge(tally, world, peace.censuses[SERVED[-1]])
    return tally


def drill_spool(folder: Path, peace: Peace, kills: int, draw: random.Random) -> Tally:
    """Let the server go away during a training; kill what sends its values afterwards."""
    tally = Tally()
    with mlflow_server(folder / "server") as server:
        with faulty_proxy(server.uri, seed=draw.randrange(2**31)) as proxy:
            world = _with_data(World.make(folder, proxy.uri, server.folder / "mlflow.db"), peace)
            _insist(world, STAGES["preprocess"], tally)
            training = world.start(STAGES["train"])
            last = len(proxy.calls) + draw.randrange(12, 24)  # it has begun, and not sent all
            while len(proxy.calls) < last and training.wait(0.01) is None:
                pass
            proxy.faults = (Fault("drop"),)
            if training.wait() == 0:
                tally.differences.broken.append("the training ended before the server went away")
            proxy.faults = FAULTS
            _insist(world, ["sync"], tally, Kills(1.0, kills, draw))
            _insist(world, STAGES["train"], tally)
            tally.faults += proxy.harmed().total()
        _judge(tally, world, peace.censuses["train"])
    return tally


def drill_full_disk(folder: Path, peace: Peace, fillings: int, draw: random.Random) -> Tally:
    """Do some stages on a disk that is filled up to a random rest, ``fillings`` times; then it is emptied."""
    tally = Tally()
    with small_disk(folder, DISK):
        world = _with_data(World.make(folder), peace)
        for stage in ("preprocess", "train"):
            _insist(world, STAGES[stage], tally, Fillings(folder / "filler", fillings, draw))
        _judge(tally, world, peace.censuses["train"])
    return tally


DRILLS: dict[str, Callable[[Path, Peace, int, random.Random], dict[str, Tally]]] = {
    "creation": lambda folder, _, kills, draw: {"store creation": drill_creation(folder, 4 * kills, draw)},
    "stages": drill_stages,
    "proxy": lambda *given: {"faulty server": drill_proxy(*given)},
    "spool": lambda *given: {"server away, then sync": drill_spool(*given)},
    "disk": lambda *given: {"full disk": drill_full_disk(*given)},
}


def _insist(world: World, arguments: Sequence[str], tally: Tally, harm: Calm | None = None) -> None:
    """Start a command again and again, with harm as long as there is any, until it succeeds."""
    harm = harm or Calm()
    began = time.monotonic()
    for _ in range(MOST_TRIES):
        tally.tries += 1
        harm.before(tally)
        command = world.start(arguments)
        harm.during(command, tally)
        code = command.wait()
        if code == 0:
            break
        if code != KILLED:  # refused: what a killed command was at may still be ending elsewhere
            time.sleep(PAUSE_SECONDS)
    else:
        tally.differences.broken.append(f"{' '.join(arguments)} never succeeded: see {world.log}")
    tally.seconds += time.monotonic() - began


def _judge(tally: Tally, world: World, expected: Census) -> None:
    """Count what a world's store holds, and compare it."""
    try:
        census = world.take_census()
    except (MlflowException, SQLAlchemyError) as error:
        tally.differences.broken.append(f"{world.database} cannot be opened ({error})")
        return
    tally.counts += census.counts()
    tally.differences += compare(census, expected) + world.problems()


def _with_clone(world: World) -> World:
    write_clone(world.folder / "clone")
    return world


def _with_data(world: World, peace: Peace) -> World:
    shutil.copytree(peace.world.folder / "data", world.folder / "data")
    return world


def _compare_data(there: Path, expected: Path) -> Differences:
    contents = [
        {
            path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".part"
        }
        for folder in (there, expected)
    ]
    names = {name for content in contents for name in content}
    other = [str(name) for name in names if contents[0].get(name) != contents[1].get(name)]
    return Differences(broken=[f"demo data: {name}" for name in sorted(other)])


def main() -> int:
    """Do the drill and print a table; return 1 where anything was lost, doubled or broken."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of moments and faults")
    parser.add_argument("--kills", type=int, default=2, help="most kills a stage and round")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is done")
    parser.add_argument("--drills", default=",".join(DRILLS), help="which, by commas")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rmer-drill-"))
    print(f"Everything is kept in {folder}.")
    peace = study_in_peace(folder / "peace")
    rows: dict[str, Tally] = {}
    for number in range(options.rounds):
        for name in options.drills.split(","):
            draw = random.Random(f"{options.seed} {number} {name}")
            try:
                tallies = DRILLS[name](folder / f"{name}-{number}", peace, options.kills, draw)
            except pytest.skip.Exception as reason:
                print(f"{name}: {reason}")
                continue
            rows |= {f"{number} {stage}": tally for stage, tally in tallies.items()}
    table = pd.DataFrame({name: tally.row() for name, tally in rows.items()}).T
    table.loc["all"] = table.sum()
    print(table.to_markdown(floatfmt="g"))
    differences = sum((tally.differences for tally in rows.values()), Differences())
    print(differences)
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
