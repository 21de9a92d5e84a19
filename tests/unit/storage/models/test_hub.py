"""Models of a hub: the real client against a small server that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "someone/shapes"


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files of a model as they lie on the hub, with variants nobody asked for."""
    folder = tmp_path / "repository"
    write_json(
        folder / "model_index.json",
        {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DDIMScheduler"]},
    )
    write_json(folder / "unet" / "config.json", {"sample_size": 8})
    write_json(folder / "vae" / "config.json", {"block_out_channels": [8, 8, 8, 8]})
    write_json(folder / "text_encoder" / "config.json", {"num_hidden_layers": 2})
    for name, count in (("unet/diffusion", 30), ("vae/diffusion", 20), ("text_encoder/model", 10)):
        for variant in ("", ".fp16", ".non_ema"):
            save_file({"w": np.zeros(count, np.float32)}, folder / f"{name}{variant}.safetensors")
    (folder / "unet" / "code.py").write_text("raise SystemExit('ran')")
    return folder


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as its client needs."""

    repository: Path
    asked: list[tuple[str, str]]

    def log_message(self, *_arguments: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        found = re.fullmatch(rf"/{MODEL}/resolve/({COMMIT}|main)/(.+)", path)
        if re.fullmatch(rf"/api/models/{MODEL}(/revision/({COMMIT}|main))?", path):
            self._send(json.dumps(self._info()).encode(), body=body)
        elif path == f"/api/models/{MODEL}/tree/{COMMIT}":
            self._send(json.dumps(self._tree()).encode(), body=body)
        elif found and (self.repository / found[2]).is_file():
            self.asked.append((self.headers.get("Range", ""), found[2]))
            self._send((self.repository / found[2]).read_bytes(), body=body)
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": one["rfilename"], "size": one["size"], "oid": "0" * 40}
            for one in self._info()["siblings"]
        ]

    def _info(self) -> dict[str, Any]:
        files = [p for p in sorted(self.repository.rglob("*")) if p.is_file()]
        siblings = [
            {"rfilename": p.relative_to(self.repository).as_posix(), "size": p.stat().st_size}
            for p in files
        ]
        return {"id": MODEL, "modelId": MODEL, "sha": COMMIT, "siblings": siblings}

    def _send(self, data: bytes, *, body: bool) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        part = data[int(wanted[1]) : int(wanted[2]) + 1] if wanted else data
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        if wanted:
            self.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{len(data)}")
        self.end_headers()
        if body:
            self.wfile.write(part)


@pytest.fixture
def hub(repository: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The address of a hub, and the files it was asked for with their ranges."""
    asked: list[tuple[str, str]] = []
    handler = type("Hub", (_Hub,), {"repository": repository, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ask(hub: tuple[str, Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs an expression in a process of its own: the client reads its settings at import."""

    def run(expression: str, *, offline: bool = False) -> Any:
        program = (
            "import json, sys\n"
            "from storage.contract.errors import ModelError\n"
            "from storage.models.resolve import describe, locate\n"
            "from storage.models.files import locate_file\n"
            "from storage.models.hub import hub_commit\n"
            "import msgspec\n"
            "try:\n"
            f"    result = {expression}\n"
            "except ModelError as error:\n"
            "    result = {'error': error.message}\n"
            "print(json.dumps(msgspec.to_builtins(result, enc_hook=str)))\n"
        )
        environment = {
            "HF_ENDPOINT": hub[0],
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "1" if offline else "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PATH": "/usr/bin:/bin",
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_model_is_described_without_fetching_its_weights(
    ask: Callable[..., Any], hub: tuple[str, list[tuple[str, str]]]
) -> None:
    card = ask(f"describe({MODEL!r})")

    assert card["revision"] == COMMIT
    assert card["parameters"] == {"text_encoder": 10, "unet": 30, "vae": 20}
    assert (card["width"], card["scheduler"]) == (64, "DDIMScheduler")
    whole = {path for asked_range, path in hub[1] if not asked_range}
    assert not any(path.endswith(".py") for path in whole)
    fetched = [path for asked_range, path in hub[1] if path.endswith("safetensors")]
    assert fetched, "headers were asked for"
    assert all(asked_range for asked_range, path in hub[1] if path.endswith("safetensors"))


def test_locating_fetches_the_plain_weights_and_nothing_that_can_run(
    ask: Callable[..., Any],
) -> None:
    folder = Path(ask(f"locate({MODEL!r})"))

    assert folder.name == COMMIT
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {name for name in names if name.endswith("safetensors")} == {
        "text_encoder/model.safetensors",
        "unet/diffusion.safetensors",
        "vae/diffusion.safetensors",
    }
    assert not any(name.endswith(".py") for name in names)


def test_what_was_fetched_once_is_found_without_a_network(ask: Callable[..., Any]) -> None:
    online = ask(f"locate({MODEL!r})")

    assert ask(f"locate({MODEL!r})", offline=True) == online
    assert ask(f"describe({MODEL!r})", offline=True)["parameters"]["unet"] == 30


def test_a_model_the_hub_does_not_have_is_an_error_in_words(ask: Callable[..., Any]) -> None:
    said = ask("describe('someone/else')")["error"]

    assert said.startswith("no model 'someone/else': it is no folder here, and the Hugging Face")


def test_pickled_weights_on_the_hub_are_refused_before_anything_is_rendered(
    ask: Callable[..., Any], repository: Path
) -> None:
    for file in (repository / "unet").glob("*.safetensors"):
        file.unlink()
    (repository / "unet" / "diffusion.bin").write_bytes(b"\x80\x04N.")

    assert "pickled weights in unet" in ask(f"describe({MODEL!r})")["error"]


def test_a_repository_of_one_component_gives_its_weights(
    ask: Callable[..., Any], repository: Path
) -> None:
    for file in sorted((repository / "unet").iterdir()):
        file.rename(repository / file.name)
    (repository / "model_index.json").unlink()

    folder = Path(ask(f"locate({MODEL!r})"))

    assert (folder / "config.json").exists()
    assert [file.name for file in folder.glob("*.safetensors")] == ["diffusion.safetensors"]


def test_single_files_beside_a_pipeline_are_left_where_they_are(
    ask: Callable[..., Any], repository: Path
) -> None:
    save_file({"w": np.zeros(60, np.float32)}, repository / "whole.safetensors")

    folder = Path(ask(f"locate({MODEL!r})"))

    assert not list(folder.glob("*.safetensors"))
    assert list(folder.glob("unet/*.safetensors"))


def test_a_file_of_a_repository_is_fetched_alone_and_found_again_offline(
    ask: Callable[..., Any], hub: tuple[str, list[tuple[str, str]]], repository: Path
) -> None:
    save_file({"w": np.zeros(3, np.float32)}, repository / "style.safetensors")
    online = ask(f"locate_file({MODEL!r})")
    assert Path(online).read_bytes() == (repository / "style.safetensors").read_bytes()
    assert {path for _, path in hub[1]} == {"style.safetensors"}
    offline = ask(f"locate_file({MODEL!r}, weight_name='style.safetensors')", offline=True)
    assert offline == online
    said = ask(f"locate_file({MODEL!r}, weight_name='other.safetensors')")["error"]
    assert "other.safetensors" in said


def test_a_branch_means_a_commit_and_offline_the_one_that_was_fetched(
    ask: Callable[..., Any],
) -> None:
    assert ask(f"hub_commit('{MODEL}', None)", offline=True) is None
    assert ask(f"hub_commit('{MODEL}', None)") == COMMIT
    assert ask(f"hub_commit('{MODEL}', '{'f' * 40}')", offline=True) == "f" * 40
    assert "no model 'someone/else'" in ask("hub_commit('someone/else', None)")["error"]

    ask(f"str(locate('{MODEL}'))")

    assert ask(f"hub_commit('{MODEL}', None)", offline=True) == COMMIT
