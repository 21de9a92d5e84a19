"""What importing a package loads: import-linter cannot see what the parents of a module load."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["torch", "diffusers", "transformers", "numpy", "sqlalchemy", "alembic", "pyarrow"]


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
    ],
)
def test_a_module_loads_nothing_heavier_than_it_needs(module: str, allowed: list[str]) -> None:
    program = f"import {module}, sys; print(*[name for name in {HEAVY} if name in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert set(done.stdout.split()) <= set(allowed)
