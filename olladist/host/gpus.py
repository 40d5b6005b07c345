"""The GPUs of a host, from what drivers and their tools print. Device paths say which driver rules, tools give the rest."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from olladist.host.found import Gpu
from olladist.host.sections import Section, Sections, number

_MIB = 1024 * 1024
_NVIDIA, _AMD = "0x10de", "0x1002"
# What tools print for a value that a card, a driver or a container does not give.
_ABSENT = {"n/a", "[n/a]", "[not supported]", "not supported", "[unknown error]", "unknown error", "[gpu is lost]", ""}


@dataclass(frozen=True, slots=True)
class Found:
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    jetpack: str = ""


def read_gpus(sections: Sections, ram_bytes: int) -> Found:
    """NVIDIA before AMD: an AMD integrated GPU beside an NVIDIA card is not what anybody means (dstack#4085)."""
    devices = sections.one("gpu-devices").lines
    displays = {line.split(" ")[0] for line in sections.one("pci-displays").lines}
    if jetpack := _jetpack(sections):
        board = sections.one("board").first or "NVIDIA Jetson"
        # The GPU of a Jetson has no memory of its own, no uuid and no nvidia-smi worth reading.
        return Found((Gpu(0, "nvidia", board, "", ram_bytes, None, sections.one("tegra").first[:40]),), jetpack=jetpack)
    if "/dev/nvidiactl" in devices or "/dev/dxg" in devices or _NVIDIA in displays:
        return _nvidia(sections, devices)
    if "/dev/kfd" in devices:
        return _amd(sections)
    if _AMD in displays:
        return Found(problem="an AMD GPU without its driver: /dev/kfd is missing")
    return Found()


def _present(text: str) -> str:
    text = text.strip()
    return "" if text.lower() in _ABSENT else text


def _jetpack(sections: Sections) -> str:
    # "# R36 (release), REVISION: 4.0, …": R35 is JetPack 5, R36 is JetPack 6 (Ollama's install.sh)
    release = re.match(r"# R(\d+)", sections.one("tegra").first)
    return {"35": "5", "36": "6"}.get(release[1], "") if release else ""


# ---- NVIDIA ----


def _nvidia(sections: Sections, devices: tuple[str, ...]) -> Found:
    smi, proc = sections.one("nvidia-smi"), sections.one("nvidia-proc")
    gpus = tuple(_nvidia_rows(smi)) if smi.value("status") == "0" else ()
    if gpus:
        return Found(gpus)
    known = tuple(_nvidia_proc(proc))
    if "/dev/nvidiactl" not in devices and "/dev/dxg" not in devices:
        return Found(problem="an NVIDIA GPU without its driver: /dev/nvidiactl is missing")
    if smi.lines:
        said = next((line.strip() for line in smi.lines if line.strip() and not line.startswith("status=")), "")
        return Found(known, f"nvidia-smi failed: {said or 'no output'}"[:300])
    if not known:
        return Found(problem="/dev/nvidiactl is there, but neither nvidia-smi nor /proc/driver/nvidia names a GPU")
    return Found(known)


def _nvidia_rows(smi: Section) -> Iterator[Gpu]:
    for line in smi.lines:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) < 6 or number(cells[0]) is None:
            continue
        index, uuid, (total, free, driver) = int(cells[0]), _present(cells[1]), cells[-3:]
        name = _present(", ".join(cells[2:-3]))
        free_mib = number(free)
        yield Gpu(
            index=index,
            vendor="nvidia",
            name=name or "NVIDIA GPU",
            uuid=uuid if uuid.startswith(("GPU-", "MIG-")) else "",
            vram_bytes=(number(total) or 0) * _MIB,
            vram_free_bytes=None if free_mib is None else free_mib * _MIB,
            driver=_present(driver),
        )


def _nvidia_proc(proc: Section) -> Iterator[Gpu]:
    """What the kernel module itself says; of use in containers that were given no nvidia-smi."""
    module = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+\.[\d.]+)", proc.text)
    driver = module[1] if module else ""
    names = [line.partition(":")[2].strip() for line in proc.lines if line.startswith("Model:")]
    uuids = [line.partition(":")[2].strip() for line in proc.lines if line.startswith("GPU UUID:")]
    for index, name in enumerate(names):
        uuid = uuids[index] if index < len(uuids) else ""
        # Before a GPU is first used its UUID reads GPU-????????-…
        yield Gpu(index, "nvidia", name, "" if "?" in uuid else uuid, 0, None, driver)


# ---- AMD ----


def _amd(sections: Sections) -> Found:
    gpus = tuple(_amd_smi(sections)) or tuple(_rocm_smi(sections.one("rocm-smi"))) or tuple(_kfd(sections.one("kfd")))
    if gpus:
        return Found(gpus)
    said = (*sections.one("amd-smi-static").lines, *sections.one("rocm-smi").lines)
    first = next((line.strip() for line in said if line.strip() and not line.startswith("status=")), "")
    why = f": {first}" if first else " and neither amd-smi, rocm-smi nor the kernel names a GPU"
    return Found(problem=f"/dev/kfd is there{why}"[:300])


def _json(section: Section) -> Any:
    """The JSON in a tool's output, warnings before it and our status line after it cut off; None where there is none."""
    text = "\n".join(line for line in section.lines if not line.startswith("status="))
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if not starts:
        return None
    try:
        return msgspec.json.decode(text[min(starts) :])
    except (msgspec.DecodeError, RecursionError):
        return None


def _amd_rows(section: Section) -> list[dict[str, Any]]:
    """ROCm 6 prints a list, ROCm 7 an object that holds it as "gpu_data"."""
    data = _json(section)
    rows = data.get("gpu_data") if isinstance(data, dict) else data
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _dig(row: Any, *keys: str) -> Any:
    for key in keys:
        row = row.get(key) if isinstance(row, dict) else None
    return row


def _text(value: Any) -> str:
    return _present(str(value)) if isinstance(value, str | int) else ""


_UNITS = {"B": 1, "KB": 1024, "KIB": 1024, "MB": _MIB, "MIB": _MIB, "GB": 1024 * _MIB, "GIB": 1024 * _MIB}


def _bytes(value: Any) -> int | None:
    """{"value": 196592, "unit": "MB"} (binary, whatever it calls itself) or a bare number of MB."""
    amount, unit = (_dig(value, "value"), _dig(value, "unit")) if isinstance(value, dict) else (value, "MB")
    count = number(str(amount)) if isinstance(amount, str | int) and not isinstance(amount, bool) else None
    scale = _UNITS.get(str(unit).upper())
    return None if count is None or scale is None else count * scale


def _rocr_uuid(unique: str) -> str:
    """The form that ROCR_VISIBLE_DEVICES takes: "GPU-" and the unique id in 16 hex digits; "" for none."""
    digits = unique.lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,16}", digits) or int(digits, 16) == 0:
        return ""
    return f"GPU-{digits:0>16}"


def _amd_smi(sections: Sections) -> Iterator[Gpu]:
    memory = {
        row.get("gpu"): _dig(row, "mem_usage", "free_vram") for row in _amd_rows(sections.one("amd-smi-memory"))
        if isinstance(row.get("gpu"), int)
    }  # fmt: skip
    for at, row in enumerate(_amd_rows(sections.one("amd-smi-static"))):
        index = row.get("gpu")
        index = index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else at
        yield Gpu(
            index=index,
            vendor="amd",
            name=_text(_dig(row, "asic", "market_name")) or "AMD GPU",
            uuid=_rocr_uuid(_text(_dig(row, "asic", "asic_serial"))),
            vram_bytes=_bytes(_dig(row, "vram", "size")) or _bytes(_dig(row, "vram", "vram_size")) or 0,
            vram_free_bytes=_bytes(memory.get(index)),
            driver=_text(_dig(row, "driver", "version")) or _text(_dig(row, "driver", "driver_version")),
        )


def _rocm_smi(section: Section) -> Iterator[Gpu]:
    data = _json(section)
    if not isinstance(data, dict):
        return
    driver = _text(_dig(data, "system", "Driver version"))
    for key, card in sorted(data.items()):
        index = number(key.removeprefix("card"))
        if not key.startswith("card") or index is None or not isinstance(card, dict):
            continue
        total = number(_text(card.get("VRAM Total Memory (B)")))
        used = number(_text(card.get("VRAM Total Used Memory (B)")))
        yield Gpu(
            index=index,
            vendor="amd",
            name=_text(card.get("Card Series")) or _text(card.get("Card series")) or "AMD GPU",
            uuid=_rocr_uuid(_text(card.get("Unique ID"))),
            vram_bytes=total or 0,
            vram_free_bytes=None if total is None or used is None else max(total - used, 0),
            driver=driver,
        )


def _kfd(section: Section) -> Iterator[Gpu]:
    """The kernel's own list; a node without SIMDs is a CPU."""
    index = 0
    for line in section.lines:
        values = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if not number(values.get("simd_count", "0")):
            continue
        unique = number(values.get("unique_id", ""))
        yield Gpu(
            index=index,
            vendor="amd",
            name="AMD GPU",
            uuid=_rocr_uuid(f"{unique:x}") if unique else "",
            vram_bytes=number(values.get("vram", "")) or 0,
            vram_free_bytes=None,
            driver="",
        )
        index += 1
