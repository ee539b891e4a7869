"""Which room may import what: the rooms of docs/architecture.md, in their order."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From the ground up: a room uses those before it. Files that lie directly in a room and its subrooms may use
# each other, and no module uses itself by way of others.
ORDER = [
    "rmer",
    *("rmer.data", "rmer.data.tables", "rmer.data.audio", "rmer.data.readers", "rmer.data.preparation"),
    "rmer.data.demo",
    "rmer.systems",
    "rmer.attacks",
    *("rmer.evaluation", "rmer.evaluation.checks", "rmer.evaluation.hearing"),
    "rmer.training",
    *("rmer.report", "rmer.report.sections", "rmer.report.listening"),
    *("rmer.tracking", "rmer.tracking.delivery", "rmer.tracking.models", "rmer.tracking.lifecycle"),
    "rmer.tracking.server",
    "rmer.execution",
    *("rmer.stages", "rmer.stages.data", "rmer.stages.attack", "rmer.stages.predict"),
    *("rmer.stages.analysis", "rmer.stages.study"),
    "entrypoints",
]
SCIENCE = ("data", "systems", "attacks", "evaluation", "training", "report")


def name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(file): file for room in ("rmer", "entrypoints") for file in (ROOT / room).rglob("*.py")}


def room(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def imports(module: str, *, types: bool = True) -> set[str]:
    """Return all that a module imports, also inside functions, and for ``types`` alone."""
    names = set()
    tree = ast.parse(MODULES[module].read_text())
    if not types:
        tree.body = [node for node in tree.body if not is_for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            names |= inside or {str(node.module)}
    return names - {module}


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


IMPORTS = {module: imports(module) for module in MODULES}
RUNTIME_IMPORTS = {module: imports(module, types=False) for module in MODULES}


def arrows() -> Iterator[tuple[str, str]]:
    return ((module, other) for module, names in IMPORTS.items() for other in names & set(MODULES))


def nested(one: str, other: str) -> bool:
    return one != "rmer" != other and (one.startswith(f"{other}.") or other.startswith(f"{one}."))


def test_every_room_has_its_place_and_says_what_it_is_for() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = re.findall(r"^(rmer|entrypoints)((?:/\w+)*)  +\w", page, re.MULTILINE)
    assert [(top + path).replace("/", ".") for top, path in listed] == ORDER
    assert {room(module) for module in MODULES} == set(ORDER)


def test_no_room_uses_one_above_it() -> None:
    rank = {place: number for number, place in enumerate(ORDER)}
    assert {
        (module, other)
        for module, other in arrows()
        if rank[room(other)] > rank[room(module)] and not nested(room(module), room(other))
    } == set()


def test_no_module_uses_itself_by_way_of_others() -> None:
    # Raises CycleError, which names the circle.
    TopologicalSorter({module: names & set(MODULES) for module, names in RUNTIME_IMPORTS.items()}).prepare()


@pytest.mark.parametrize("science", SCIENCE)
def test_science_knows_neither_mlflow_nor_the_command_line(science: str) -> None:
    inside = [module for module in MODULES if module.startswith(f"rmer.{science}.")]
    assert inside
    barred = re.compile(r"(mlflow|click|rmer\.tracking|rmer\.stages|entrypoints)\b")
    assert not [(module, used) for module in inside for used in IMPORTS[module] if barred.match(used)]


def test_only_tracking_imports_mlflow() -> None:
    users = {
        module for module, names in IMPORTS.items() if any(re.match(r"mlflow\b", used) for used in names)
    }
    assert {module for module in users if not module.startswith("rmer.tracking")} == set()


def test_a_file_is_found_by_its_name() -> None:
    count = Counter(file.name for module, file in MODULES.items() if module.startswith("rmer."))
    assert {file for file, times in count.items() if times > 1} == {"__init__.py"}
