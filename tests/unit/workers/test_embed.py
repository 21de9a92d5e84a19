"""The process that turns what is asked for into vectors."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from storage.db.vectors import Of
from tests.models.embedding import save_clip
from workers import embed


def test_a_text_is_answered_with_its_vector(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"kind": Of.PROMPT, "model": "wordllama", "text": "a fox"}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(asked)))
    assert embed.main(["query"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 256


def test_clip_answers_pictures_and_texts(tmp_path: Path) -> None:
    save_clip(tmp_path)
    file = tmp_path / "red.png"
    Image.new("RGB", (64, 64), "red").save(file)
    asked = {"kind": Of.PICTURE, "model": str(tmp_path)}
    shown = embed.answer(asked | {"picture": str(file)})
    told = embed.answer(asked | {"text": "a red fox"})
    assert len(shown) == len(told) == 8
    assert shown != told


def test_a_model_that_cannot_be_used_is_one_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"kind": Of.PROMPT, "model": str(tmp_path), "text": "a fox"}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(asked)))
    assert embed.main(["query"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(tmp_path) in said
