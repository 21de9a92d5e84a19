"""Exports are read back by the programs they are for, picture by picture and field by field."""

from __future__ import annotations

import csv
import gc
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scheduler.service.export.columns import COLUMNS
from scheduler.service.export.options import ExportOptions, Form, ShardSize
from scheduler.service.export.run import CHECKSUMS, MANIFEST, Exported, export
from scheduler.service.export.target import FolderTarget
from storage.db import images
from storage.db.images import ImageRow
from storage.opening import Mill

SPLITS = {"train": 0.7, "test": 0.3}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No reader asks a hub or writes into this user's caches."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def take(mill: Mill, tmp_path: Path) -> Callable[..., tuple[Path, Exported]]:
    """Exports in a form; where it lies, and what is said of it."""

    def run(form: Form, query: str = "*", **options: Any) -> tuple[Path, Exported]:
        out = tmp_path / "out"
        done = export(mill, FolderTarget(out), ExportOptions(query=query, format=form, **options))
        return out, done

    return run


@pytest.fixture
def rows(mill: Mill) -> dict[str, ImageRow]:
    """All rendered images, by id."""
    with mill.ledger.read() as connection:
        found = images.page(connection, images.ImageFilter(), limit=100)
        return {f"{job}/{row.item}": row for job, row in found if row.object_key}


def check(known: dict[str, Any], row: ImageRow, picture: Image.Image | bytes, mill: Mill) -> None:
    """Every field and every pixel is the catalog's."""
    for name in ("prompt", "negative_prompt", "seed", "model", "width", "height", "scheduler",
                 "num_inference_steps", "guidance_scale", "sha256", "bytes", "item", "row",
                 "line", "image_no", "revision", "pixels_sha256", "render_key", "seconds",
                 "truncated_tokens"):  # fmt: skip
        # As JSON lines nothing is null: readers guess types by values.
        assert (known[name] or None) == (getattr(row, name) or None), name
    flagged = {None: (None, ""), 0: (False, "no"), 1: (True, "yes")}[row.flagged]
    assert known["flagged"] in flagged
    tags = known["tags"]
    assert (json.loads(tags) if isinstance(tags, str) else tags) == json.loads(row.tags)
    assert (known["mode"], known["device"], known["weights"]) == ("cpu", "cpu/1", "abc")
    original = mill.store.get(str(row.object_key))
    if isinstance(picture, bytes):
        assert picture == original
    else:
        with Image.open(io.BytesIO(original)) as opened:
            assert picture.convert("RGB").tobytes() == opened.convert("RGB").tobytes()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by webdataset itself
def test_webdataset_reads_the_shards(
    take: Callable[..., Any], rows: dict[str, ImageRow], mill: Mill
) -> None:
    import webdataset

    out, done = take(Form.WEBDATASET, shard=ShardSize(images=5), splits=SPLITS)
    found = {}
    for split, count in done.splits.items():
        shards = sorted(str(path) for path in out.glob(f"{split}-*.tar"))
        assert len(shards) == -(-count // 5)
        dataset = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil")
        samples = list(dataset)
        del dataset
        gc.collect()  # its files are closed here, not in the next test
        assert [one["__key__"] for one in samples] == [f"{n:09d}" for n in range(count)]
        for one in samples:
            known = one["json"]
            check(known, rows[known["id"]], one["png"], mill)
            assert one["txt"] == known["prompt"]
            assert known["manifest"]["seed"] == known["seed"]
            found[known["id"]] = split
    assert found.keys() == rows.keys()
    assert set(found.values()) == {"train", "test"}


@pytest.mark.parametrize("link", [False, True], ids=["embedded", "linked"])
def test_datasets_and_duckdb_read_parquet(
    take: Callable[..., Any], rows: dict[str, ImageRow], mill: Mill, link: bool
) -> None:
    import datasets
    import duckdb

    out, _ = take(Form.PARQUET, shard=ShardSize(images=9), link=link, caption="tag.n")
    files = sorted(str(path) for path in out.glob("data/*.parquet"))
    assert len(files) == 3
    loaded = datasets.load_dataset("parquet", data_files=files, split="train")
    assert isinstance(loaded.features["image"], datasets.Image)
    assert set(loaded.features) == {"image", *COLUMNS}
    assert [one["id"] for one in loaded] == list(rows)
    for one in loaded:
        check(one, rows[one["id"]], one["image"], mill)
        assert one["text"] == json.loads(one["tags"])["n"]
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT id, seed, tags->>'Category', image.bytes, image.path FROM read_parquet(?)",
            [files],
        ).fetchall()
    assert {row[0] for row in found} == rows.keys()
    for name, seed, tag, data, path in found:
        assert (seed, tag) == (rows[name].seed, "Animals, all")
        held = Path(path).read_bytes() if link else bytes(data)
        assert hashlib.sha256(held).hexdigest() == rows[name].sha256
        assert (data is None) == link


def test_datasets_reads_the_image_folder_by_its_card(
    take: Callable[..., Any], rows: dict[str, ImageRow], mill: Mill
) -> None:
    import datasets
    import yaml

    out, done = take(Form.HF, shard=ShardSize(images=4), splits=SPLITS)
    loaded = datasets.load_dataset(str(out))
    assert {split: len(loaded[split]) for split in loaded} == done.splits
    seen = set()
    for split in loaded:
        for one in loaded[split]:
            check(one, rows[one["id"]], one["image"], mill)
            assert one["text"] == one["prompt"]
            seen.add(one["id"])
    assert seen == rows.keys()
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert front["size_categories"] == ["n<1K"]
    assert [one["name"] for one in front["dataset_info"]["features"]] == ["image", *COLUMNS]
    assert "generated by AI" in card


def test_diffusiondb_has_its_layout(
    take: Callable[..., Any], rows: dict[str, ImageRow], mill: Mill
) -> None:
    import pyarrow.parquet

    out, _ = take(Form.DIFFUSIONDB, shard=ShardSize(images=10))
    table = pyarrow.parquet.read_table(out / "metadata.parquet").to_pylist()
    assert len(table) == len(rows)
    by_hash = {row.sha256: row for row in rows.values() if row.item != 0}
    parts = sorted(path.name for path in (out / "images").iterdir())
    assert parts == ["part-000001", "part-000002", "part-000003"]
    known = {
        part: json.loads((out / "images" / part / f"{part}.json").read_text()) for part in parts
    }
    for one in table:
        part = f"part-{one['part_id']:06d}"
        path = out / "images" / part / one["image_name"]
        said = known[part].pop(one["image_name"])
        row = by_hash.get(hashlib.sha256(path.read_bytes()).hexdigest())
        if row is not None:
            assert (one["prompt"], one["step"]) == (row.prompt, row.num_inference_steps)
            assert one["seed"] == row.seed
            assert (one["width"], one["height"], one["cfg"]) == (row.width, row.height, 7.5)
            assert one["sampler"] == 1
        assert said == {"p": one["prompt"], "se": one["seed"], "c": 7.5, "st": 2, "sa": "ddim"}
    assert not any(known.values())


def test_files_have_their_names_and_a_list_of_checksums(
    take: Callable[..., Any], rows: dict[str, ImageRow], mill: Mill
) -> None:
    out, done = take(Form.FILES, name_template="{job}/{prompt:.12}.png", shard=ShardSize(images=6))
    names = [path.relative_to(out).as_posix() for path in out.rglob("*.png")]
    assert len(names) == len(rows) == done.images
    assert {"foxes/a red fox.png", "foxes/a red fox-2.png", "foxes/x.png"} <= set(names)
    assert "foxes/..-..-etc-pa.png" not in names
    assert {name.split("/")[0] for name in names} == {"foxes", "owls"}
    lines = (out / CHECKSUMS).read_text().splitlines()
    assert len(lines) == len(names)
    for line in lines:
        digest, name = line.split("  ", 1)
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert {line.split("  ")[0] for line in lines} == {row.sha256 for row in rows.values()}
    assert json.loads((out / MANIFEST).read_text())["complete"]
    names = [path.name for path in out.iterdir()]
    assert not any(name.startswith(".") for name in names)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".jsonl":
        for line in path.read_text().splitlines():
            row = json.loads(line)
            yield row | {f"rendermill.{name}": one for name, one in row["rendermill"].items()}
        return
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


@pytest.mark.parametrize("form", [Form.JSONL, Form.CSV])
def test_rows_are_manifests_again(
    take: Callable[..., Any], rows: dict[str, ImageRow], form: Form
) -> None:
    out, done = take(form, "outcome:rendered")
    found = list(_read(out / f"images.{form}"))
    assert [one["rendermill.id"] for one in found] == list(rows)
    for one in found:
        row = rows[one["rendermill.id"]]
        assert one["rendermill.sha256"] == row.sha256
        assert (one["prompt"], int(one["seed"])) == (row.prompt, row.seed)
    assert done.images == len(rows)


def test_rows_also_say_what_failed(take: Callable[..., Any]) -> None:
    out, _ = take(Form.JSONL, "outcome:failed")
    [one] = _read(out / "images.jsonl")
    assert (one["rendermill"]["id"], one["rendermill"]["reason"]) == ("foxes/7", "nan")
