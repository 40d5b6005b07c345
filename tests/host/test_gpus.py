"""GPUs out of what drivers and their tools print. Whole hosts: tests/host/facts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.host.gpus import Found, read_gpus
from olladist.host.sections import Sections
from tests.host.recorded import recorded

GIB = 1 << 30


def read(*sections: tuple[str, str]) -> Found:
    text = "".join(f"@{name}\n" + "".join(f"|{line}\n" for line in content.split("\n")) for name, content in sections)
    return read_gpus(Sections(text), ram_bytes=64 * GIB)


NVIDIA = ("gpu-devices", "/dev/nvidiactl")
AMD = ("gpu-devices", "/dev/kfd")


def test_values_that_a_driver_does_not_give_are_unknown_and_not_zero_free() -> None:
    """[N/A] and [Not Supported] stand for nothing; a name may hold a comma."""
    row = "0, GPU-1, NVIDIA A100, custom edition, 81920, [Not Supported], [N/A]"

    (gpu,) = read(NVIDIA, ("nvidia-smi", f"{row}\nstatus=0")).gpus

    assert (gpu.name, gpu.vram_bytes, gpu.vram_free_bytes) == ("NVIDIA A100, custom edition", 80 * GIB, None)
    assert gpu.driver == ""


def test_an_nvidia_card_rules_beside_an_integrated_amd_gpu() -> None:
    """/dev/nvidiactl is looked for before /dev/kfd."""
    row = "0, GPU-1, NVIDIA RTX 4090, 24564, 24000, 560.1\nstatus=0"

    found = read(("gpu-devices", "/dev/nvidiactl\n/dev/kfd"), ("nvidia-smi", row), ("kfd", "node=1 simd_count=4"))

    assert [gpu.vendor for gpu in found.gpus] == ["nvidia"]


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"gpu_data": rows}], ids=["rocm6", "rocm7"])
def test_both_shapes_of_amd_smi_say_the_same(wrap: Any) -> None:
    """ROCm 6 prints a list, ROCm 7 an object around it."""
    rows = [
        {
            "gpu": 0,
            "asic": {"market_name": "AMD Instinct MI210", "asic_serial": "0xabc"},
            "vram": {"size": {"value": 65520, "unit": "MB"}},
        }
    ]
    usage = [{"gpu": 0, "mem_usage": {"free_vram": {"value": 65000, "unit": "MB"}}}]

    (gpu,) = read(
        AMD, ("amd-smi-static", json.dumps(wrap(rows), indent=2)), ("amd-smi-memory", json.dumps(wrap(usage)))
    ).gpus

    assert (gpu.name, gpu.uuid) == ("AMD Instinct MI210", "GPU-0000000000000abc")
    assert (gpu.vram_bytes, gpu.vram_free_bytes) == (65520 << 20, 65000 << 20)


def test_without_amds_tools_the_kernel_is_asked() -> None:
    """CPU nodes are left out, and the order is the one that ROCm counts in."""
    nodes = "node=0 simd_count=0 vram=0\nnode=1 simd_count=304 unique_id=255 vram=206141652992\nnode=2 simd_count=8 unique_id=0"

    found = read(AMD, ("kfd", nodes))

    assert [(gpu.index, gpu.uuid, gpu.vram_bytes) for gpu in found.gpus] == [
        (0, "GPU-00000000000000ff", 206141652992),
        (1, "", 0),
    ]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("ubuntu22-driver-mismatch", "Driver/library version mismatch"),
        ("debian12-no-driver", "/dev/nvidiactl is missing"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_a_problem_with_its_cause(case: str, says: str) -> None:
    """A sick driver is not the same as no GPU."""
    facts = recorded(case)

    assert facts.gpus == ()
    assert says in facts.gpu_problem


def test_a_tool_that_fails_leaves_what_the_kernel_module_knows() -> None:
    """/proc/driver/nvidia names the GPUs also where nvidia-smi does not start; an unread UUID is none."""
    proc = "Model: \t\t NVIDIA A10\nGPU UUID: \t GPU-????????-????-????-????-????????????"

    found = read(
        NVIDIA, ("nvidia-smi", "nvidia-smi: libnvidia-ml.so.1: cannot open\nstatus=127"), ("nvidia-proc", proc)
    )

    assert [(gpu.name, gpu.uuid) for gpu in found.gpus] == [("NVIDIA A10", "")]
    assert "libnvidia-ml" in found.problem


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["gpu_data", "gpu", "asic", "vram", "size", "value", "unit", "card0", "Unique ID", "mem_usage"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON, JSON, st.text(max_size=40))
def test_any_answer_of_a_tool_ends_in_values(static: Any, memory: Any, rocm: Any, row: str) -> None:
    """Tools change their output with every release; what we cannot read is no GPU, never a crash."""
    for device in (AMD, NVIDIA):
        read(
            device,
            ("amd-smi-static", json.dumps(static)),
            ("amd-smi-memory", json.dumps(memory)),
            ("rocm-smi", json.dumps(rocm)),
            ("nvidia-smi", row + "\nstatus=0"),
        )
