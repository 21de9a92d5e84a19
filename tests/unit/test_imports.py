"""What importing a package loads: import-linter cannot see what the parents of a module load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storage.home import CATALOG

HEAVY = [
    *("torch", "diffusers", "transformers", "numpy", "sqlalchemy", "alembic", "pyarrow"),
    *("boto3", "celery", "psycopg", "redis"),
]

EXTRAS = [
    *("accelerate", "diffusers", "numpy", "safetensors", "scipy", "torch", "transformers"),
    *("boto3", "botocore", "celery", "huggingface_hub", "kombu", "psycopg", "redis", "pyarrow"),
]
"""Packages that only an extra installs."""


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("storage.contract.claims", []),
        ("scheduler.policy", []),
        ("scheduler.manifest.expansion", []),
        ("scheduler.cli.main", ["sqlalchemy"]),
        ("scheduler.service.local", ["sqlalchemy"]),
        ("workers.cli", []),
        ("workers.supervise", ["sqlalchemy"]),
        ("workers.loop", ["sqlalchemy", "numpy"]),
        ("workers.wiring", ["sqlalchemy", "numpy"]),
        ("workers.consumer", ["sqlalchemy", "numpy", "celery"]),
        ("storage.opening", ["sqlalchemy"]),
        ("storage.settings", []),
    ],
)
def test_a_module_loads_nothing_heavier_than_it_needs(module: str, allowed: list[str]) -> None:
    program = f"import {module}, sys; print(*[name for name in {HEAVY} if name in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert set(done.stdout.split()) <= set(allowed)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["render", "--help"],
        ["worker", "--help"],
        ["render", "prompts.txt", "--dry-run"],
        ["init"],
        ["jobs"],
        ["status"],
        ["doctor"],
    ],
)
def test_the_base_install_does_what_needs_no_extra(
    tmp_path: Path, migrated_catalog: Path, arguments: list[str]
) -> None:
    (tmp_path / "home").mkdir()
    shutil.copy(migrated_catalog, tmp_path / "home" / CATALOG)
    done = run_without_extras(tmp_path, *arguments)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("DATABASE", "postgresql://127.0.0.1:1/mill"),
        ("STORAGE", "s3://bucket?endpoint=http://127.0.0.1:1"),
    ],
)
def test_what_needs_an_extra_says_how_to_install_it(
    tmp_path: Path, variable: str, url: str
) -> None:
    done = run_without_extras(tmp_path, "init", **{f"RENDERMILL_{variable}_URL": url})

    assert done.returncode == 2
    assert "rendermill[farm]" in done.stderr


def run_without_extras(
    folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as if no extra were installed, in a folder with some prompts."""
    (folder / "prompts.txt").write_text("one\n")
    program = (
        f"import importlib.util, sys; sys.modules.update(dict.fromkeys({EXTRAS}))\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda n, p=None: None if n in {EXTRAS} else find(n, p)\n"
        f"sys.argv = ['rendermill', *{arguments}]\n"
        "from scheduler.cli.main import main; main()"
    )
    settings = {"RENDERMILL_HOME": str(folder / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
        check=False,
    )
