"""Manifests whose rows start from pictures, on their way to a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import ManifestProblems
from scheduler.service.options import SubmitOptions
from scheduler.service.prepare import prepared
from scheduler.service.submit import Submitted, submit
from storage.contract.errors import InputError, StoreFull
from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE, GroupSpec, Lora
from storage.db import groups, jobs
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.pictures import input_key
from storage.testing.factories import make_card

Read = Callable[..., Any]
Write = Callable[[str, str | bytes], str]


def png(width: int = 64, height: int = 64, colour: str = "red") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps({"prompt": "a"} | row) + "\n" for row in rows)


@pytest.fixture
def pictures(write: Write) -> dict[str, str]:
    """Files beside the manifests, and the keys they get."""
    files = {
        "cat.png": png(),
        "mask.png": png(colour="white"),
        "wide.png": png(128, 70),
        "half.png": png(300, 300)[:200],
    }
    for name, data in files.items():
        write(name, data)
    return {name: input_key(data, "png") for name, data in files.items()}


def problems_of(read: Read, *arguments: Any, **options: Any) -> list[str]:
    with pytest.raises(ManifestProblems) as caught:
        read(*arguments, **options)
    return [str(one).rpartition("/")[2] for one in caught.value.problems.first]


def test_items_hold_the_keys_of_their_pictures(read: Read, pictures: dict[str, str]) -> None:
    rows = lines(
        {"image": "cat.png", "n": 2},
        {"image": "cat.png", "mask": "mask.png", "strength": 0.5},
        {},
    )

    first, again, masked, plain = read("a.jsonl", rows).by_row

    assert first.image == again.image == masked.image == pictures["cat.png"]
    assert masked.mask_image == pictures["mask.png"]
    assert plain.pictures == ()


def test_groups_follow_from_pictures(read: Read, pictures: dict[str, str]) -> None:
    rows = lines(
        {"image": "cat.png"},
        {"image": "wide.png"},
        {"image": "wide.png", "strength": 0.5},
        {"image": "mask.png"},
        {"image": "cat.png", "mask_image": "mask.png"},
        {},
    )

    done = read("a.jsonl", rows)

    settled = [
        (spec.kind, spec.width, spec.height, spec.strength, len(items))
        for spec, items in done.groups
    ]
    assert settled == [
        (IMAGE_TO_IMAGE, 64, 64, 0.8, 2),
        (IMAGE_TO_IMAGE, 128, 64, 0.8, 1),
        (IMAGE_TO_IMAGE, 128, 64, 0.5, 1),
        (INPAINT, 64, 64, 1.0, 1),
        (TEXT_TO_IMAGE, 64, 64, None, 1),
    ]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.csv", "prompt,image,mask,strength,loras\na,cat.png,mask.png,0.5,\"x/y:0.8, z/w\"\n"),
        ("a.tsv", "prompt\tinit_img\tmask_image\tdenoising_strength\tlora\n"
                  "a\tcat.png\tmask.png\t0.5\tx/y:0.8, z/w\n"),
        ("a.jsonl", lines({"image": "cat.png", "mask_image": "mask.png", "strength": 0.5,
                           "loras": [{"id": "x/y", "weight": 0.8}, {"id": "z/w"}]})),
        ("a.yaml", "items:\n- {prompt: a, image: cat.png, mask: mask.png, strength: 0.5,"
                   " loras: [{id: x/y, weight: 0.8}, z/w]}\n"),
    ],
    ids=["csv", "tsv", "jsonl", "yaml"],
)  # fmt: skip
def test_every_format_can_say_it(
    read: Read, pictures: dict[str, str], file: str, content: str
) -> None:
    ((spec, (item,)),) = read(file, content).groups

    assert (item.image, item.mask_image) == (pictures["cat.png"], pictures["mask.png"])
    assert (spec.kind, spec.strength) == (INPAINT, 0.5)
    assert spec.loras == (Lora(id="x/y", weight=0.8), Lora(id="z/w"))


def test_a_bad_picture_is_a_problem_with_line_and_field(
    read: Read, pictures: dict[str, str]
) -> None:
    rows = lines(
        {"image": "cat.png"}, {"image": "gone.png"}, {"image": "cat.png", "mask": "half.png"}
    )

    assert problems_of(read, "a.jsonl", rows) == [
        "a.jsonl:2: image: gone.png: there is no such file",
        "a.jsonl:3: mask_image: half.png: is damaged or cut off: image file is truncated",
    ]


def test_a_bad_picture_leaves_its_neighbours_alone(read: Read, pictures: dict[str, str]) -> None:
    rows = lines({"image": "cat.png"}, {"image": "half.png"}, {"strength": 0.5}, {})

    done = read("a.jsonl", rows, skip_invalid=True)

    assert [item.row for item in done.by_row] == [0, 3]
    assert [one["row"] for one in done.rejected] == [1, 2]


def test_sweeps_run_over_pictures_strength_and_weights(
    read: Read, pictures: dict[str, str]
) -> None:
    job = """
    sweep:
    - strength: [0.25, 0.75]
    - loras: ["x/y:0.5", [{id: x/y, weight: 1}]]
    - image: [cat.png, wide.png]
    items:
    - prompt: a
    """

    done = read("a.yaml", job)

    made = {(spec.strength, spec.loras[0].weight, item.image) for spec, (item,) in done.groups}
    assert made == {
        (strength, weight, pictures[name])
        for strength in (0.25, 0.75)
        for weight in (0.5, 1.0)
        for name in ("cat.png", "wide.png")
    }
    assert len(set(done.seeds)) == 1, "a sweep compares like with like"


def test_defaults_and_options_name_pictures_too(read: Read, pictures: dict[str, str]) -> None:
    rows = lines({}, {"image": "wide.png"})

    given = read("a.jsonl", rows, defaults={"image": "cat.png"}).by_row
    forced = read("a.jsonl", rows, overrides={"image": "cat.png", "strength": "0.5"}).by_row

    assert [item.image for item in given] == [pictures["cat.png"], pictures["wide.png"]]
    assert [item.image for item in forced] == [pictures["cat.png"]] * 2


def test_paths_are_relative_to_the_file_that_holds_the_rows(
    read: Read, pictures: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "dog.png").write_bytes(png(8, 8))
    (folder / "rows.jsonl").write_text(lines({"image": "dog.png"}))

    (item,) = read("job.yaml", "manifest: inner/rows.jsonl\n").items

    assert item.image == input_key(png(8, 8), "png")


def test_a_column_named_kind_is_a_tag_unless_it_names_a_kind_of_task(
    read: Read, pictures: dict[str, str]
) -> None:
    rows = lines(
        {"kind": "animal"},
        {"kind": "image-to-image", "image": "cat.png"},
        {"kind": "img2img", "image": "cat.png"},
        {"kind": 7},
    )

    done = read("a.jsonl", rows)

    assert [item.tags for item in done.by_row] == [{"kind": "animal"}, {}, {}, {"kind": "7"}]
    assert [spec.kind for spec, _ in done.groups] == [TEXT_TO_IMAGE, IMAGE_TO_IMAGE]
    assert done.work.tag_names == ("kind",)
    (said,) = problems_of(read, "a.jsonl", lines({"kind": "inpant"}))
    assert said == (
        "a.jsonl:1: kind: is no kind of task; did you mean 'inpaint'? To keep it as a tag, name"
        " it 'tag.kind'"
    )


def test_rows_with_lists_are_grouped_like_those_with_text(read: Read) -> None:
    rows = lines(
        {"loras": [{"id": "x/y", "weight": 0.5}]},
        {"loras": "x/y:0.5"},
        {"loras": [{"weight": 0.5, "id": "x/y"}]},
        {"loras": [{"id": "x/y", "weight": 1}]},
    )

    assert [len(items) for _, items in read("a.jsonl", rows).groups] == [3, 1]


# Submitting


@pytest.fixture
def submit_file(ledger: Ledger, store: MemoryStore, write: Write) -> Callable[..., Submitted]:
    def submit_manifest(content: str, **options: Any) -> Submitted:
        path = write("a.jsonl", content)
        asked = SubmitOptions(manifest=path, **options)
        with prepared(asked, limits=Limits(), describe=lambda *_: make_card()) as work:
            return submit(work, path, ledger=ledger, store=store)

    return submit_manifest


def inputs_in(store: MemoryStore) -> set[str]:
    return {key for key in store.objects if key.startswith("inputs/")}


def test_pictures_are_stored_once_each(
    submit_file: Callable[..., Submitted], store: MemoryStore, pictures: dict[str, str]
) -> None:
    submit_file(lines(*[{"image": "cat.png"}] * 5, {"image": "wide.png"}))

    assert inputs_in(store) == {pictures["cat.png"], pictures["wide.png"]}
    assert store.objects[pictures["cat.png"]] == png()


def test_a_job_of_that_name_made_from_other_pictures_is_another(
    submit_file: Callable[..., Submitted], pictures: dict[str, str], write: Write
) -> None:
    rows = lines({"image": "cat.png"})
    first = submit_file(rows, name="mine")
    assert submit_file(rows, name="mine").job == first.job

    write("cat.png", png(colour="blue"))

    with pytest.raises(InputError, match="made from another manifest"):
        submit_file(rows, name="mine")


def test_where_storing_fails_there_is_no_job(
    submit_file: Callable[..., Submitted],
    ledger: Ledger,
    store: MemoryStore,
    pictures: dict[str, str],
) -> None:
    store.failing = StoreFull("no space left")
    with pytest.raises(StoreFull):
        submit_file(lines({"image": "cat.png"}))
    with ledger.read() as connection:
        assert jobs.names_like(connection, "a") == set()

    store.failing = None
    job = submit_file(lines({"image": "cat.png"})).job
    with ledger.read() as connection:
        (group,) = groups.of_job(connection, job.id, limit=10)
    assert isinstance(group.spec, GroupSpec)
    assert group.spec.kind == IMAGE_TO_IMAGE
    assert inputs_in(store) == {pictures["cat.png"]}


def test_what_another_job_may_have_stays_where_a_submission_fails(
    submit_file: Callable[..., Submitted],
    store: MemoryStore,
    pictures: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit_file(lines({"image": "cat.png"}))

    def fail(*_: Any, **__: Any) -> int:
        raise RuntimeError("killed")

    monkeypatch.setattr(jobs, "create", fail)
    with pytest.raises(RuntimeError):
        submit_file(lines({"image": "cat.png"}, {"image": "wide.png"}))

    assert pictures["cat.png"] in inputs_in(store)


def test_a_dry_run_tells_groups_and_writes_nothing(
    write: Write, store: MemoryStore, pictures: dict[str, str]
) -> None:
    path = write("a.jsonl", lines({"image": "wide.png"}))
    asked = SubmitOptions(manifest=path)

    with prepared(asked, limits=Limits(), describe=lambda *_: make_card(), dry_run=True) as work:
        (group,) = work.groups
        work.pictures.store_into(store)

    assert (group.spec.kind, group.spec.width, group.spec.height) == (IMAGE_TO_IMAGE, 128, 64)
    assert store.objects == {}
