"""From a manifest to pictures and answers, with the fake renderer."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

FAKE = ("--renderer", "fake")
Wait = Callable[[Callable[[], bool], str], None]


def write(program: Any, name: str, text: str) -> str:
    (program.folder / name).write_text(text)
    return name


def prompts(program: Any, count: int) -> str:
    return write(program, "prompts.txt", "".join(f"prompt {n}\n" for n in range(count)))


def test_a_text_file_becomes_pictures_and_a_catalog(program: Any) -> None:
    done = program.run("render", prompts(program, 20), *FAKE)

    program.check("prompts", items=20)
    assert "20 of 20 images" in done.stdout
    assert "rendermill contact-sheet prompts" in done.stdout
    listed = program.json("images", "--job", "prompts", "--limit", "3")
    assert [image["prompt"] for image in listed["images"]] == ["prompt 0", "prompt 1", "prompt 2"]
    assert listed["next"] == "prompts/2"
    with Image.open(program.folder / listed["images"][0]["file"]) as picture:
        assert picture.size == (64, 64)
        assert json.loads(picture.info["rendermill"])["item"]["prompt"] == "prompt 0"


def test_an_unquoted_tsv_keeps_its_quotes_and_its_columns_become_tags(program: Any) -> None:
    table = 'Prompt\tCategory\tNote\na "quoted" thing \tAnimals\t\nthe other "\tArts\tlong, note\n'
    manifest = write(program, "parts.tsv", table)

    program.run("render", manifest, "--set", "num_inference_steps=8", *FAKE)

    (image,) = program.json("images", "--tag", "Category=Animals")["images"]
    assert image["prompt"] == 'a "quoted" thing '
    assert image["tags"] == {"Category": "Animals"}
    assert image["num_inference_steps"] == 8
    (image,) = program.json("images", "--tag", "Note=long, note")["images"]
    assert image["prompt"] == 'the other "'


def test_a_dry_run_writes_nothing(program: Any) -> None:
    shown = json.loads(
        program.run("render", prompts(program, 5), "--dry-run", "--json", *FAKE).stdout
    )

    assert shown["total"]["images"] == 5
    assert shown["groups"][0]["spec"]["width"] == 64
    assert [path.name for path in program.folder.iterdir()] == ["prompts.txt"]


def test_failed_items_give_exit_code_3_and_their_reasons(program: Any) -> None:
    manifest = write(program, "some.txt", "good\n!nan\n!error\nalso good\n")

    done = program.run("render", manifest, *FAKE, code=3)

    program.check("some", items=4)
    assert "2 of 4" in done.stdout
    failed = program.json("images", "--failed")["images"]
    assert {image["prompt"]: image["reason"] for image in failed} == {
        "!nan": "nan",
        "!error": "error",
    }


def test_an_item_that_kills_its_process_fails_alone(program: Any) -> None:
    lines = [f"prompt {n}" for n in range(12)]
    lines[7] = "!crash"
    manifest = write(program, "some.txt", "\n".join(lines))

    program.run("render", manifest, *FAKE, code=3)

    program.check("some", items=12)
    (failed,) = program.json("images", "--failed")["images"]
    assert failed["prompt"] == "!crash"
    assert failed["reason"] == "crashed"
    assert "SIGABRT" in failed["detail"]


def test_the_same_manifest_under_a_name_is_found_again(program: Any) -> None:
    manifest = prompts(program, 6)
    program.run("render", manifest, "--name", "mine", *FAKE)

    again = program.run("render", manifest, "--name", "mine", *FAKE)
    other = program.run("render", manifest, "--name", "mine", "--seed", "1", *FAKE, code=2)
    unnamed = program.run("render", manifest, *FAKE)

    assert "was made from this manifest before" in again.stdout
    assert "another manifest or other settings" in other.stderr
    assert "Job prompts:" in unnamed.stdout
    assert [job["name"] for job in program.json("jobs")] == ["prompts", "mine"]
    program.check("mine", items=6)


def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(program: Any, wait_until: Wait) -> None:
    manifest = prompts(program, 400)
    run = program.start("render", manifest, *FAKE, "--fake-seconds", "0.02")
    wait_until(lambda: program.rows() > 0, "the first images")

    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)

    assert run.returncode == 130, errors
    assert "rendermill resume prompts" in errors
    kept = program.rows()
    assert 0 < kept < 400
    assert "rendered" in output
    assert program.json("job", "prompts")["shown_state"] == "interrupted"
    program.run("resume", "prompts", *FAKE)
    program.check("prompts", items=400)
    attempts = program.query("SELECT state FROM tasks WHERE state NOT IN ('finished', 'returned')")
    assert attempts == []


def test_a_second_run_waits_for_the_device_and_then_renders(program: Any, wait_until: Wait) -> None:
    first = program.start("render", prompts(program, 40), *FAKE, "--fake-seconds", "0.03")
    wait_until(lambda: program.rows() > 0, "the first images")

    second = program.start("render", write(program, "more.txt", "one\ntwo\n"), *FAKE)
    _, errors = second.communicate(timeout=120)
    first.communicate(timeout=120)

    assert (first.returncode, second.returncode) == (0, 0), errors
    program.check("prompts", items=40)
    program.check("more", items=2)
    ends = dict(program.query("SELECT name, finished_at FROM jobs"))
    starts = program.query(
        "SELECT min(claimed_at) FROM tasks JOIN jobs ON jobs.id = job_id WHERE name = 'more'"
    )
    assert starts[0][0] >= ends["prompts"]


def test_a_contact_sheet_shows_pictures_and_failures(program: Any) -> None:
    program.run("render", write(program, "some.txt", "a\n!nan\nb\n"), *FAKE, code=3)

    program.run("contact-sheet", "some", "-o", "sheet.png", "--columns", "3", "--cell", "64")

    with Image.open(program.folder / "sheet.png") as sheet:
        assert sheet.width == 3 * (64 + 12) + 12


def test_metadata_of_an_image_is_a_manifest_that_renders_it_again(program: Any) -> None:
    program.run("render", prompts(program, 3), "--set", "scheduler=euler_a", *FAKE)
    picture = next((program.home / "renders" / "prompts").rglob("000000002.png"))
    with Image.open(picture) as opened:
        record = json.loads(opened.info["rendermill"])
    write(program, "again.jsonl", json.dumps(record["item"]) + "\n")

    program.run("render", "again.jsonl", *FAKE)

    (again,) = (program.home / "renders" / "again").rglob("*.png")
    with Image.open(picture) as one, Image.open(again) as other:
        assert one.tobytes() == other.tobytes()


BAD = {
    "empty.jsonl": (b"", "is empty"),
    "empty.csv": (b"", "is empty"),
    "garbage.txt": (bytes(range(256)) * 50, "binary file"),
    "garbage.jsonl": (b"{\x80\x81}\n" * 3, "is not UTF-8"),
    "header.csv": (b"title,kind\nx,y\n", "header.csv:1: prompt: is missing"),
    "utf8.txt": (b"fine\n\xff bad\n", "utf8.txt:2: is not UTF-8: byte 1 is 0xff"),
    "long.jsonl": (b'{"prompt": "' + b"x" * 10_000_000 + b'"}\n', "long.jsonl:1: the line is too"),
    "negative.jsonl": (b'{"prompt": "a", "width": -64}\n', "width: must be 1 to 8192, not -64"),
    "odd.jsonl": (b'{"prompt": "a", "height": 100}\n', "96 and 104 would be"),
    "sampler.jsonl": (b'{"prompt": "a", "sampler": "eulr"}\n', "did you mean 'euler'?"),
    "model.jsonl": (b'{"prompt": "a", "model": "./none"}\n', "no model './none'"),
    "near.csv": (b"prompt,guidence_scale\na,1\n", "did you mean 'guidance_scale'"),
    "job.yaml": (b"items: [{prompt: a}]\nmanifest: x.txt\n", "either 'items' or 'manifest'"),
    "table.parquet": (b"PAR1 but not really", "not a readable Parquet file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error_and_leaves_nothing(program: Any, name: str) -> None:
    data, said = BAD[name]
    (program.folder / name).write_bytes(data)

    done = program.run("render", name, *FAKE, code=2)

    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in program.folder.iterdir()] == [name]


def test_a_wrong_type_in_the_last_of_many_rows_names_its_line(program: Any) -> None:
    good = '{"prompt": "p", "width": 64}\n' * 20_000
    write(program, "many.jsonl", good + '{"prompt": "p", "width": "64"}\n')

    done = program.run("render", "many.jsonl", *FAKE, code=2)

    assert "many.jsonl:20001: width: must be a whole number, not '64'" in done.stderr
    assert not program.home.exists()


def test_invalid_rows_can_be_skipped_and_are_recorded(program: Any) -> None:
    rows = [{"prompt": "one"}, {"prompt": "two", "steps": 0}, {"prompt": "three"}]
    write(program, "some.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    done = program.run("render", "some.jsonl", "--skip-invalid", *FAKE)

    assert "1 rows rejected" in done.stdout
    program.check("some", items=2)
    (rejected,) = (program.home / "jobs").rglob("rejected.jsonl")
    record = json.loads(rejected.read_text())
    assert (record["row"], record["line"]) == (1, 2)
    assert "num_inference_steps: must be 1 to 1000, not 0" in record["problems"][0]


def test_a_home_that_cannot_be_made_is_an_error(program: Any) -> None:
    write(program, "file", "not a folder")

    done = program.run("render", prompts(program, 1), "--home", "file/home", *FAKE, code=1)

    assert "cannot make the home" in done.stderr
    assert "Traceback" not in done.stderr


def test_reading_where_nothing_was_rendered_says_what_to_do(program: Any) -> None:
    done = program.run("jobs", code=2)

    assert "there is no catalog" in done.stderr
    assert "--home" in done.stderr


def test_a_missing_job_names_those_there_are(program: Any) -> None:
    program.run("render", prompts(program, 1), *FAKE)

    for command in (("job", "x"), ("resume", "x"), ("contact-sheet", "x", "-o", "s.png")):
        assert "the newest are: prompts" in program.run(*command, code=2).stderr
    assert "no image prompts/7" in program.run("image", "prompts/7", code=2).stderr
    assert "not an image id" in program.run("image", "7", code=2).stderr


def test_standard_input_is_a_manifest_too(program: Any) -> None:
    import subprocess

    done = subprocess.run(
        program.command("render", "-", "--format", "txt", *FAKE),
        input="one\ntwo\n",
        cwd=program.folder,
        env=program.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    program.check("stdin", items=2)


def test_reading_a_job_that_renders_right_now_does_not_disturb_it(
    program: Any, wait_until: Wait
) -> None:
    run = program.start("render", prompts(program, 40), *FAKE, "--fake-seconds", "0.02")
    wait_until(lambda: program.rows() > 0, "the first images")

    while run.poll() is None:
        program.json("images", "--limit", "5")
        program.json("job", "prompts")

    assert run.returncode == 0
    program.check("prompts", items=40)
