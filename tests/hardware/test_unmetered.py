"""Accelerators that no sensor reads are said, and nothing that is metered elsewhere is."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbonmon.core.model import Device
from carbonmon.hardware.unmetered import sources

MI300X, MI210, RYZEN = ("0x1002", "0x74a1"), ("0x1002", "0x740f"), ("0x1002", "0x1681")
IRIS, ARC, MAX = ("0x8086", "0x46a6"), ("0x8086", "0x56a0"), ("0x8086", "0x0bd5")


class Tree:
    """A /sys with PCI devices, as the kernel lays it out: classes and drivers are links to devices."""

    def __init__(self, folder: Path) -> None:
        self.sysfs = folder / "sys"
        self.sysfs.mkdir()

    def pci(self, address: str, ids: tuple[str, str], driver: str = "", *files: str) -> Path:
        device = self.sysfs / "devices/pci0000:00" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{ids[0]}\n")
        (device / "device").write_text(f"{ids[1]}\n")
        for name in files:
            (device / name).write_text("0\n")
        link = self.sysfs / "bus/pci/devices" / address
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(device)
        if driver:
            folder = self.sysfs / "bus/pci/drivers" / driver
            folder.mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(folder)
            (folder / address).symlink_to(device)
        return device

    def show(self, kind: str, name: str, device: Path | None) -> None:
        folder = self.sysfs / "class" / kind / name
        folder.mkdir(parents=True)
        if device is not None:
            (folder / "device").symlink_to(device)

    def cards(self, number: int, ids: tuple[str, str], driver: str, *files: str) -> None:
        for index in range(number):
            device = self.pci(f"0000:{0x10 + index:02x}:00.0", ids, driver, *files)
            self.show("drm", f"card{index}", device)
            self.show("drm", f"card{index}-HDMI-A-1", device)
            self.show("drm", f"renderD{128 + index}", device)

    def said(self, *devices: Device) -> list[str]:
        return [source.reason for source in sources(self.sysfs, devices)]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_machine_without_any_says_nothing(tree: Tree, tmp_path: Path):
    assert tree.said() == []
    assert sources(tmp_path / "nowhere", []) == []


def test_eight_amd_gpus_are_one_line_with_what_to_do(tree: Tree):
    tree.cards(8, MI300X, "amdgpu", "gpu_busy_percent", "mem_busy_percent")
    (source,) = sources(tree.sysfs, [])
    assert source.reason == "8 AMD GPUs are here and not counted: no sensor reads them"
    assert (source.name, source.use) == ("unmetered AMD GPU", "not used")
    assert source.remedy.startswith("carbonmon run --gpu-model 'Instinct MI300X':8 -- …")


def test_one_is_said_in_the_singular(tree: Tree):
    tree.cards(1, MI210, "amdgpu")
    assert tree.said() == ["1 AMD GPU is here and not counted: no sensor reads it"]


def test_integrated_graphics_are_in_the_package(tree: Tree):
    tree.cards(1, RYZEN, "amdgpu", "gpu_busy_percent")
    tree.show("drm", "card7", tree.pci("0000:00:02.0", IRIS, "i915"))
    assert tree.said() == []


def test_a_discrete_intel_gpu_is_said_wherever_it_is(tree: Tree):
    tree.cards(2, MAX, "xe")
    tree.show("drm", "card7", tree.pci("0000:00:02.0", ARC, "i915"))  # handed to a virtual machine
    assert tree.said() == ["3 Intel GPUs are here and not counted: no sensor reads them"]


def test_a_board_s_own_display_and_nvidia_s_gpus_are_no_lines(tree: Tree):
    tree.show("drm", "card0", tree.pci("0000:02:00.0", ("0x1a03", "0x2000"), "ast"))
    tree.show("drm", "card1", tree.pci("0000:03:00.0", ("0x10de", "0x2330"), "nvidia"))
    assert tree.said() == []


def test_an_nvidia_gpu_without_nvidia_s_driver_is_said(tree: Tree):
    tree.show("drm", "card1", tree.pci("0000:03:00.0", ("0x10de", "0x2330"), "nouveau"))
    assert tree.said() == ["1 NVIDIA GPU is here and not counted: no sensor reads it"]


def test_where_only_the_compute_driver_lists_them_its_list_counts(tree: Tree):
    nodes = tree.sysfs / "class/kfd/kfd/topology/nodes"
    for number, text in enumerate(
        (
            "cpu_cores_count 64\nsimd_count 0\nlocation_id 0\n",
            "cpu_cores_count 0\nsimd_count 1216\nlocation_id 1280\ndomain 0\n",
            "cpu_cores_count 0\nsimd_count 1216\nlocation_id 9472\ndomain 0\n",
        )
    ):
        (nodes / str(number)).mkdir(parents=True)
        (nodes / str(number) / "properties").write_text(text)
    assert tree.said() == ["2 AMD GPUs are here and not counted: no sensor reads them"]


def test_gaudi_cards_of_new_and_of_old_kernels(tree: Tree):
    for index in range(8):
        device = tree.pci(f"0000:{0x10 + index:02x}:00.0", ("0x1da3", "0x1020"), "habanalabs")
        tree.show("accel", f"accel{index}", device)
        tree.show("accel", f"accel_controlD{index}", device)
    assert tree.said() == ["8 Gaudi accelerators are here and not counted: no sensor reads them"]


def test_gaudi_cards_of_the_older_class(tree: Tree):
    device = tree.pci("0000:10:00.0", ("0x1da3", "0x1000"), "habanalabs")
    tree.show("habanalabs", "hl0", device)
    tree.show("habanalabs", "hl_controlD0", device)
    assert tree.said() == ["1 Gaudi accelerator is here and not counted: no sensor reads it"]


def test_tpus_by_class_and_by_vfio_without_google_s_network_card(tree: Tree):
    for index in range(4):
        tree.show("accel", f"accel{index}", tree.pci(f"0000:00:{4 + index:02x}.0", ("0x1ae0", "0x005e")))
    tree.pci("0000:01:00.0", ("0x1ae0", "0x0063"), "vfio-pci")
    tree.pci("0000:02:00.0", ("0x1ae0", "0x0042"), "vfio-pci")
    tree.pci("0000:03:00.0", ("0x1ae0", "0x0042"), "gve")
    assert tree.said() == ["5 Google TPUs are here and not counted: no sensor reads them"]


@pytest.mark.parametrize("place", ["class/neuron_device", "devices/virtual/neuron_device"])
def test_trainium_is_told_by_its_driver_and_not_by_amazon_s_disks(tree: Tree, place: str):
    for index in range(16):
        (tree.sysfs / place / f"neuron{index}").mkdir(parents=True)
    tree.pci("0000:04:00.0", ("0x1d0f", "0xec20"), "ena")
    assert tree.said() == ["16 AWS Neuron devices are here and not counted: no sensor reads them"]


def test_an_accelerator_of_another_vendor_is_said_with_its_number(tree: Tree):
    tree.show("accel", "accel0", tree.pci("0000:05:00.0", ("0x17cb", "0xa100"), "qaic"))
    (source,) = sources(tree.sysfs, [])
    assert source.reason.startswith("1 accelerator of the PCI vendor 0x17cb is here and not counted")
    assert "--gpu-tdp WATTS" in source.remedy


@pytest.mark.parametrize(
    ("ids", "driver"), [(("0x8086", "0x7d1d"), "intel_vpu"), (("0x1022", "0x1502"), "amdxdna")]
)
def test_a_laptop_s_npu_is_in_the_package(tree: Tree, ids: tuple[str, str], driver: str):
    tree.show("accel", "accel0", tree.pci("0000:00:0b.0", ids, driver))
    assert tree.said() == []


def test_what_the_user_states_is_counted_as_an_estimate(tree: Tree):
    tree.cards(8, MI300X, "amdgpu")
    stated = [Device(f"gpu-{index}", "gpu", "MI300X", index, ("tdp",)) for index in range(8)]
    assert tree.said(*stated) == []
    assert tree.said(*stated[:6]) == ["2 AMD GPUs are here and not counted: no sensor reads them"]


def test_a_card_that_the_kernel_shows_twice_is_one(tree: Tree):
    device = tree.pci("0000:10:00.0", MI300X, "amdgpu")
    tree.show("drm", "card0", device)
    tree.show("drm", "card1", device)
    assert tree.said() == ["1 AMD GPU is here and not counted: no sensor reads it"]


def test_garbage_and_loops_in_the_tree_do_no_harm(tree: Tree):
    loop = tree.sysfs / "class/drm/card0"
    loop.mkdir(parents=True)
    (loop / "device").symlink_to(loop / "device")
    (tree.sysfs / "class/drm/card1/device").mkdir(parents=True)
    (tree.sysfs / "class/drm/card1/device/vendor").write_bytes(b"\xff\xfe")
    nodes = tree.sysfs / "class/kfd/kfd/topology/nodes"
    nodes.mkdir(parents=True)
    (nodes / "0").write_text("no folder")
    assert tree.said() == []
