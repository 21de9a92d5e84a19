"""What is exported as rows renders again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.service.export.options import ExportOptions, Form
from scheduler.service.export.plain import MANIFEST
from scheduler.service.export.run import export
from scheduler.service.export.target import FolderTarget
from storage.contract import record
from storage.contract.items import ControlNet, IpAdapter, Lora, Upscaler
from storage.contract.record import item_fields
from storage.opening import Mill
from storage.testing.factories import make_item, make_spec


@pytest.mark.parametrize("form", [Form.JSONL, Form.CSV])
def test_rows_taken_out_are_the_items_they_were(
    mill: Mill, tmp_path: Path, read: Callable[..., Any], form: Form
) -> None:
    options = ExportOptions(query="job:foxes outcome:rendered", format=form)
    export(mill, FolderTarget(tmp_path / "out"), options)
    content = (tmp_path / "out" / f"images.{form}").read_bytes()
    reading = read(f"again.{form}", content)
    assert reading.problems == []
    [(spec, items)] = reading.groups
    assert len(items) == 22
    assert (spec.guidance_scale, spec.num_inference_steps, spec.scheduler) == (7.5, 2, "ddim")
    numbers = [number for number in range(23) if number != 7]
    assert [item.seed for item in items] == [2**32 - 1 - number for number in numbers]
    for number, item in zip(numbers, items, strict=True):
        assert item.tags == {"Category": "Animals, all", "n": str(number)}
    assert items[1].prompt == 'two "birds", one\nline'


def test_a_table_has_a_column_for_all_that_a_row_may_say() -> None:
    spec = make_spec(
        kind="inpaint",
        revision="main",
        clip_skip=1,
        strength=0.5,
        loras=(Lora(id="a"),),
        controlnets=(ControlNet(model="b"),),
        ip_adapter=IpAdapter(model="c"),
        upscaler=Upscaler(model="d"),
    )
    item = make_item(
        image="i", mask_image="m", control_images=("c",), ip_adapter_image="p",
        negative_prompt="no", tags={"a": "b"},
    )  # fmt: skip
    assert set(item_fields(item, spec)) | set(record._PLAIN) == set(MANIFEST)


def test_an_image_that_was_not_made_here_is_a_row_too(mill: Mill, tmp_path: Path) -> None:
    mill.store.delete(["jobs/owls/items"])
    options = ExportOptions(query="job:owls", format=Form.CSV)
    export(mill, FolderTarget(tmp_path / "out"), options)
    header, first, *_ = (tmp_path / "out" / "images.csv").read_text().splitlines()
    assert header.startswith("prompt,negative_prompt,model,")
    assert first.startswith("a red fox,,starter,")
