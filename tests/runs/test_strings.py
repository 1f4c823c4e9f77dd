"""Names of devices for people."""

from __future__ import annotations

import pytest

from carbonmon.runs.summary.strings import device_text


@pytest.mark.parametrize(
    ("device_id", "index", "short", "whole"),
    [
        ("GPU-8932f937-d72c-4106", 3, "3 GPU-8932f937", "3 GPU-8932f937-d72c-4106"),
        ("GPU-0000:10:00.0", 0, "0 GPU-0000:10:00.0", "0 GPU-0000:10:00.0"),
        ("package-0", 0, "package-0", "package-0"),
    ],
)
def test_a_gpu_is_named_by_its_index_and_as_much_of_its_id_as_tells_it_apart(
    device_id: str, index: int, short: str, whole: str
):
    assert device_text(device_id, index, is_short=True) == short
    assert device_text(device_id, index, is_short=False) == whole
