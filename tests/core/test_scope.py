"""What is counted on machines that exist, by the one rule of carbonmon.core.scope."""

from __future__ import annotations

from carbonmon.core.model import Component, Device, Method, Part
from carbonmon.core.scope import contents_text, decide

COUNTER: tuple[Method, ...] = ("counter",)
POWER: tuple[Method, ...] = ("power", "tdp")
TDP: tuple[Method, ...] = ("tdp",)
ALL_MEMORY = Device("dram-0", "dram", "memory", 0, TDP, contains=(Part("dram"),))


def device(device_id: str, component: Component, methods: tuple[Method, ...], *contains: Part) -> Device:
    index = int("".join(filter(str.isdigit, device_id)) or 0)
    return Device(device_id, component, device_id, index, methods, contains=contains)


def counted(*devices: Device) -> list[str]:
    return list(decide({each.id: each for each in devices}).counted)


def module(number: int, *contains: Part, methods: tuple[Method, ...] = COUNTER) -> Device:
    return device(f"module-{number}", "module", methods, *contains)


def superchip(number: int, gpu: str, methods: tuple[Method, ...] = COUNTER) -> Device:
    inside = Part("gpu", None, gpu), Part("cpu", number), Part("dram", number)
    return module(number, *inside, methods=methods)


GPU, OTHER_GPU = device("GPU-0", "gpu", POWER), device("GPU-1", "gpu", POWER)
CPU, OTHER_CPU = device("package-0", "cpu", TDP), device("package-1", "cpu", TDP)


def test_devices_beside_one_another_are_all_counted():
    machine = [GPU, OTHER_GPU, CPU, OTHER_CPU, ALL_MEMORY]
    assert counted(*machine) == [each.id for each in machine]
    measured = [device("package-0", "cpu", COUNTER), device("dram-0", "dram", COUNTER)]
    assert counted(*measured) == ["package-0", "dram-0"]


def test_a_superchip_s_module_is_counted_without_its_gpu_cpu_and_memory():
    assert counted(GPU, superchip(0, "GPU-0"), CPU, ALL_MEMORY) == ["module-0"]


def test_the_order_of_the_sensors_does_not_matter():
    assert counted(ALL_MEMORY, CPU, superchip(0, "GPU-0"), GPU) == ["module-0"]


def test_four_superchips_are_four_modules():
    modules = [superchip(number, f"GPU-{number}") for number in range(4)]
    cpus = [device(f"package-{number}", "cpu", TDP) for number in range(4)]
    assert counted(*modules, *cpus, ALL_MEMORY) == [f"module-{number}" for number in range(4)]


def test_the_cpu_of_a_superchip_that_the_job_does_not_use_is_estimated_beside_the_module():
    assert counted(superchip(0, "GPU-0"), CPU, OTHER_CPU, ALL_MEMORY) == ["module-0", "package-1"]


def test_measured_parts_that_are_all_of_a_module_are_finer_than_it():
    grace = device("grace-0", "module", ("power",), Part("cpu", 0), Part("dram", 0))
    cores = device("package-0", "cpu", ("power", "tdp"))
    # The cores alone are not all of Grace; the GPU and Grace are all of the module.
    whole = superchip(0, "GPU-0", POWER)
    assert counted(whole, GPU, grace, cores, ALL_MEMORY) == ["GPU-0", "grace-0"]
    assert counted(whole, GPU, cores, ALL_MEMORY) == ["module-0"]


def test_a_whole_by_its_counter_comes_before_parts_of_which_one_is_known_by_power_only():
    grace = device("grace-0", "module", ("power",), Part("cpu", 0), Part("dram", 0))
    gpu = device("GPU-0", "gpu", ("counter", "power"))
    assert counted(superchip(0, "GPU-0"), gpu, grace, ALL_MEMORY) == ["module-0"]
    exact = device("grace-0", "module", COUNTER, Part("cpu", 0), Part("dram", 0))
    assert counted(superchip(0, "GPU-0"), gpu, exact, ALL_MEMORY) == ["GPU-0", "grace-0"]


def test_two_meters_of_the_same_are_one():
    same = module(1, Part("gpu", None, "GPU-0"), Part("cpu", 0), Part("dram", 0))
    assert counted(superchip(0, "GPU-0"), same) == ["module-0"]


def test_a_measured_package_that_moves_with_others_holds_their_estimates():
    mirrored = device("package-0", "cpu", ("counter", "tdp"), Part("cpu", 1))
    assert counted(mirrored, OTHER_CPU, ALL_MEMORY) == ["package-0", "dram-0"]


def test_an_estimated_module_gives_way_to_a_measured_package():
    apu = module(0, Part("gpu", None, "gpu-0"), Part("cpu", 0), Part("dram", 0), methods=TDP)
    assert counted(apu, CPU, ALL_MEMORY) == ["module-0"]
    assert counted(apu, device("package-0", "cpu", COUNTER), ALL_MEMORY) == ["package-0", "dram-0"]


def test_a_cpu_whose_figure_has_the_memory_in_it_comes_before_the_memory_s_estimate():
    halves = [device(f"package-{number}", "cpu", TDP, Part("dram", number)) for number in (0, 1)]
    assert counted(*halves, ALL_MEMORY) == ["package-0", "package-1"]
    assert counted(ALL_MEMORY, *halves) == ["package-0", "package-1"]


def test_the_estimate_of_a_package_and_the_counters_of_its_dies_are_counted_once_in_any_order():
    dies = [Device(f"package-0-die-{die}", "cpu", "die", 0, COUNTER) for die in (0, 1)]
    other = Device("package-10-die-0", "cpu", "die", 10, COUNTER)
    for offered in ([CPU, *dies, other], [*dies, CPU, other]):
        assert counted(*offered) == ["package-0-die-0", "package-0-die-1", "package-10-die-0"]
    assert counted(CPU, OTHER_CPU, other) == ["package-0", "package-1", "package-10-die-0"]


def test_of_a_socket_s_power_and_the_counters_of_its_dies_the_counters_are_counted_in_any_order():
    dies = [Device(f"package-0-die-{die}", "cpu", "die", 0, COUNTER) for die in (0, 1)]
    socket = Device("package-0", "cpu", "socket", 0, ("power",), contains=(Part("cpu", 0),))
    for offered in ([socket, *dies], [*dies, socket], [dies[0], socket, dies[1]]):
        assert counted(*offered) == ["package-0-die-0", "package-0-die-1"]
    worse = [die._replace(methods=("tdp",)) for die in dies]
    assert counted(socket, *worse) == ["package-0"], "what is measured comes before what is estimated"
    by_power = [die._replace(methods=("power",)) for die in dies]
    counter = socket._replace(methods=COUNTER)
    assert counted(counter, *by_power) == ["package-0"], "and the better method before the worse one"


def test_a_whole_node_is_left_out_where_everything_in_it_is_measured():
    node = module(9, Part("gpu"), Part("cpu"), Part("dram"))
    measured = [device("GPU-0", "gpu", COUNTER), device("package-0", "cpu", COUNTER)]
    memory = device("dram-0", "dram", COUNTER)
    assert counted(node, *measured, memory) == ["GPU-0", "package-0", "dram-0"]
    assert counted(node, *measured, ALL_MEMORY) == ["module-9"]


def test_a_device_of_unknown_energy_takes_nobody_s_place():
    orin = module(0, Part("gpu", 0), Part("cpu"), Part("dram"), methods=())
    assert counted(orin, CPU, ALL_MEMORY) == ["module-0", "package-0", "dram-0"]


def test_a_whole_is_counted_where_the_energy_of_one_of_its_parts_is_unknown():
    node = module(9, Part("gpu"))
    assert counted(node, device("GPU-0", "gpu", COUNTER), device("GPU-1", "gpu", ())) == ["module-9", "GPU-1"]


def test_of_two_meters_of_one_gpu_the_one_with_a_counter_is_counted():
    assert counted(OTHER_GPU, module(1, Part("gpu", None, "GPU-1"))) == ["module-1"]


def test_what_is_left_out_is_said_with_who_has_its_energy():
    (left_out,) = decide({each.id: each for each in (superchip(0, "GPU-0"), CPU)}).left_out
    assert left_out.device is CPU
    assert left_out.reason == (
        "its energy, or a part of it, is in module-0 (measured): it would be counted twice"
    )


def test_contents_are_said_in_plain_words():
    assert contents_text(superchip(0, "GPU-0")) == "gpu GPU-0, cpu 0, dram 0"
    assert contents_text(ALL_MEMORY) == "all dram"
    assert contents_text(CPU) == ""
