"""The peaks of a node's GPUs, as far as their data sheets are in the table."""

from __future__ import annotations

from carbonmon.core.model import Device
from carbonmon.core.work import PRECISIONS, GpuPeak
from carbonmon.data import GPU_PEAKS, rows
from carbonmon.hardware.peak_flops import gpu_peaks

A100 = Device("GPU-0", "gpu", "NVIDIA A100-SXM4-80GB")


def test_each_gpu_has_the_peak_of_its_model_in_the_precision():
    t4 = A100._replace(id="GPU-1", name="Tesla T4")
    assert gpu_peaks([A100, t4], "fp16") == (GpuPeak("GPU-0", 312e12), GpuPeak("GPU-1", 65e12))
    assert gpu_peaks([A100, t4], "bf16") == (GpuPeak("GPU-0", 312e12),), "a T4 has none"


def test_what_is_no_whole_gpu_of_the_table_has_no_peak():
    others = [
        A100._replace(name="NVIDIA A100-SXM4-40GB MIG 1g.5gb"),
        A100._replace(share_ratio=0.5),
        A100._replace(name="A board that nobody knows"),
        Device("package-0", "cpu", "AMD EPYC"),
        Device("module-0", "module", "GH200 480GB"),
    ]
    assert gpu_peaks(others, "bf16") == ()


def test_every_precision_of_the_table_can_be_told():
    assert {row["precision"] for row in rows(GPU_PEAKS)} == PRECISIONS
