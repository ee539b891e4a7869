"""PEP 517 backend: fetch the published madmom sdist, modernise it, hand it to setuptools.

The sdist is pinned by digest. Every modernisation is a mechanical substitution that has to match, so a source
that differs from the one they were written for stops the build instead of being built half-mended.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from setuptools import build_meta

REQUIREMENT = "madmom==0.16.1"
SHA256 = "64a86a29106e7c4e0c5f4ec96801c2d1a8492db710e4fe27e097da5517d68cb2"
HERE = Path(__file__).resolve().parent

# (files, pattern, replacement): applied to each file that the glob names; at least one must match.
MODERNISATIONS = (
    # aliases that NumPy 1.24 and 2.0 removed
    ("**/*.py*", r"\bnp\.(float|int|bool)\b", r"\1"),
    ("**/*.py", r"\bnp\.in1d\b", "np.isin"),
    ("audio/signal.py", r"\bnp\.fromstring\b", "np.frombuffer"),
    # NumPy 2: copy=False has become an error where a copy is needed, copy=None is the old meaning
    ("**/*.py", r"(np\.array\([^()]*)copy=False", r"\1copy=None"),
    # Python 3.10 moved the abstract classes, SciPy the filters
    ("processors.py", r"from collections (?=import MutableSequence)", "from collections.abc "),
    ("**/*.py*", r"\bscipy\.ndimage\.filters\b", "scipy.ndimage"),
    # setuptools 82 has no pkg_resources
    ("__init__.py", r"import pkg_resources\n", "from importlib.metadata import version as _version\n"),
    ("__init__.py", r'pkg_resources\.get_distribution\("madmom"\)\.version', '_version("madmom")'),
    ("__init__.py", r"del pkg_resources, doctest", "del doctest"),
    # Python 3.12 has no distutils; the check asked for SciPy 0.14
    (
        "ml/nn/activations.py",
        r"    from distutils\.version import LooseVersion\n(?s:.*?)    (?=from scipy\.special import expit)",
        "    ",
    ),
)

SETUP = """\
import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

sources = ["audio/comb_filters.pyx", "features/beats_crf.pyx", "ml/hmm.pyx", "ml/nn/layers.py"]
extensions = [
    Extension(
        "madmom." + source.rpartition(".")[0].replace("/", "."),
        ["madmom/" + source],
        include_dirs=[numpy.get_include()],
    )
    for source in sources
]
setup(ext_modules=cythonize(extensions, language_level="3str"))
"""


def get_requires_for_build_wheel(config_settings: dict[str, object] | None = None) -> list[str]:
    """Everything is in ``pyproject.toml``."""
    return []


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: dict[str, object] | None = None
) -> str:
    """Write the metadata without fetching anything; without this hook pip would build twice."""
    with _project_folder():
        return build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the modernised wheel. Raises SystemExit when the source cannot be had or differs."""
    if shutil.which(os.environ.get("CC", "cc").split()[0]) is None:
        raise SystemExit(
            "madmom has compiled parts: install a C compiler (Debian: apt install gcc libc6-dev)"
        )
    with _project_folder() as folder:
        _fetch(folder)
        modernise(folder / "madmom")
        Path("setup.py").write_text(SETUP, encoding="utf-8")
        return build_meta.build_wheel(wheel_directory, config_settings)


def modernise(package: Path) -> None:
    """Apply :data:`MODERNISATIONS` to the sources in ``package``; stop where one matches nothing."""
    for files, pattern, replacement in MODERNISATIONS:
        matches = 0
        for path in sorted(package.glob(files)):
            if path.suffix not in (".py", ".pyx"):
                continue
            text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"))
            if count:
                path.write_text(text, encoding="utf-8")
            matches += count
        if not matches:
            raise SystemExit(f"madmom's source is not the one expected: no {pattern!r} in {files}")


@contextlib.contextmanager
def _project_folder() -> Iterator[Path]:
    """Work in a scratch folder with this project's ``pyproject.toml``, so that the clone stays clean."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="madmom-") as name:
        folder = Path(name)
        shutil.copy(HERE / "pyproject.toml", folder)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def _fetch(folder: Path) -> None:
    """Put the sdist's ``madmom`` package into ``folder``, without stale C files and trained models."""
    requirements = folder / "sdist.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
    command += ["--no-build-isolation", "--require-hashes", "--dest", str(folder), "-r", str(requirements)]
    # pip tells a backend where it lies by these variables; an inner pip would look for its own there
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("_PYPROJECT_HOOKS_", "PEP517_"))}
    if subprocess.run(command, env=environment, check=False).returncode:
        raise SystemExit(f"could not download the source of {REQUIREMENT}: see pip's message above")
    with tarfile.open(next(folder.glob("madmom-*.tar.gz"))) as archive:
        archive.extractall(folder / "sdist", filter="data")
    package = folder / "madmom"
    shutil.move(next((folder / "sdist").glob("madmom-*/madmom")), package)
    for stale in package.glob("**/*.c"):
        stale.unlink()
    for model in (package / "models").iterdir():  # CC BY-NC-SA and 20 MB; the front end needs none
        if model.is_dir():
            shutil.rmtree(model)
