"""What is in the catalog is not rendered again, and what is purged is gone, whoever is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

KILLED_WHILE_DELETING = """
import os, signal, sys
from scheduler.cli.main import app
from storage.objects.folder import FolderStore

def delete_one(self, keys, _delete=FolderStore.delete):
    _delete(self, list(keys)[:1])
    os.kill(os.getpid(), signal.SIGKILL)

FolderStore.delete = delete_one
sys.argv = ["rendermill", "purge", "--older-than", "0s"]
app()
"""


def write(program: Any, *prompts: str) -> str:
    (program.folder / "a.txt").write_text("\n".join(prompts) + "\n")
    return "a.txt"


def test_only_the_row_that_changed_is_rendered(program: Any) -> None:
    settings = ("--set", "num_inference_steps=1", "--device", "cpu", "--processes", "1")
    program.run("render", write(program, "a red star", "a blue star", "a circle"), *settings)
    workers = program.query("SELECT count(*) FROM workers")

    again = program.run("render", "a.txt", *settings)
    assert "3 of them are in the catalog already" in again.stdout
    assert "nothing is left to render" in again.stdout
    assert program.query("SELECT count(*) FROM workers") == workers  # none was started

    write(program, "a red star", "a green star", "a circle")
    assert (
        "2 of them are in the catalog already" in program.run("render", "a.txt", *settings).stdout
    )
    rows = program.query(
        "SELECT i.item, i.linked_item FROM images i JOIN jobs j ON j.id = i.job_id"
        " WHERE j.name = 'a-3' ORDER BY i.item"
    )
    assert rows == [(0, 0), (1, None), (2, 2)]
    assert program.json("image", "a-3/2")["lineage"]["parents"] == {"linked": "a/2"}
    assert program.json("image", "a-3/1")["lineage"]["parents"] == {}
    assert len(program.json("images", "linked:true")["images"]) == 5

    program.run("render", "a.txt", *settings, "--no-reuse")
    assert program.query("SELECT count(*) FROM images WHERE linked_job IS NULL") == [(3 + 1 + 3,)]


def test_a_purge_killed_while_it_deletes_is_finished_by_the_next(program: Any) -> None:
    program.run("render", write(program, "a", "b", "c", "d"), "--renderer", "fake")
    program.run("delete", "prompt:a OR prompt:b OR prompt:c", "--yes")
    killed = subprocess.run(
        [sys.executable, "-P", "-c", KILLED_WHILE_DELETING],
        cwd=program.folder,
        env=program.environment(),
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    pictures = program.home / "renders" / "a" / "00000"
    assert len(list(pictures.iterdir())) == 3
    assert program.query("SELECT count(*) FROM images WHERE hidden_at = 0") == [(3,)]
    assert program.json("undelete", "*") == {"images": 0}  # their files may be gone

    assert program.json("purge")["images"] == 3
    assert [path.name for path in pictures.iterdir()] == ["000000003.png"]
    assert program.query("SELECT item FROM images") == [(3,)]
