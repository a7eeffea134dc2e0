"""`windows.ps1`: native Ollama or llama-server on Windows; for vLLM, which has no Windows build, `wsl-vllm.sh` in WSL2.

Knows Windows' own quoting (the `ps` filter) and what its shell cannot pass on; the server's words are those of a
native start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import plugins
from planner.render.artifacts.docker import headline
from planner.render.artifacts.ollama import modelfile
from planner.render.launch import token_need
from planner.render.native import native, why_not_native
from planner.render.quoting import printable
from planner.render.registry import Target
from planner.render.templating import fill
from planner.units import GIB, ceil_div

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE, SCRIPT = "windows.ps1", "wsl-vllm.sh"
PLATFORMS = {"vllm": ("cuda",), "ollama": ("cuda", "rocm", "cpu"), "llamacpp": ("cuda", "rocm", "cpu")}
WSL_SPARE_GIB = 2
"""For the system inside, on top of what the engine takes."""


def refuses(plan: Plan) -> str | None:
    """What has no way onto Windows, and names that its shell would tear apart."""
    engine = plan.best.engine
    if engine.name not in PLATFORMS:
        return f"{engine.name} runs on Windows only inside Docker Desktop's Linux: use target docker there"
    if engine.platform not in PLATFORMS[engine.name]:
        how = "in WSL2 on an NVIDIA GPU" if engine.name == "vllm" else "on an NVIDIA or AMD GPU or a CPU"
        return f"{engine.name} runs on Windows {how}, not on {engine.platform}"
    reason = _linux_only(plan) or why_not_native(plan)
    if reason is not None:
        return reason
    if engine.name == "vllm":
        pinned = plugins.requirements(engine)
        return (
            f"no version of the plugin {printable(engine.plugin)[:60]} is known"
            if engine.plugin and not pinned
            else None
        )
    torn = next((word for word in (*native(plan).words, plan.best.model.served_name) if _torn(word)), None)
    why = "it holds a double quote, or a space and a backslash at its end"
    return f"Windows PowerShell cannot pass {printable(torn)[:80]!r}: {why}" if torn else None


def _torn(word: str) -> bool:
    """True for a word that Windows PowerShell hands to a program as another one: it quotes, and escapes nothing."""
    return '"' in word or (word.endswith("\\") and any(char.isspace() for char in word))


def _linux_only(plan: Plan) -> str | None:
    """Why Windows does not start on the planned machine, or has no driver that the engine reaches there.

    WSL2 passes on what Windows' display driver model (WDDM) shows; data-centre GPUs run without it (NVIDIA's CUDA on
    WSL guide). AMD's HIP for Windows knows Radeon only.
    """
    accelerator, engine = plan.resolved.machine.accelerator, plan.best.engine
    if accelerator is None:
        return None
    elsewhere = "run it on Linux: target systemd, docker or compose"
    kind, name = accelerator.device_class, accelerator.name
    if kind == "embedded" or (kind == "integrated" and accelerator.vendor == "nvidia"):
        return f"{name} is a board that runs Linux, not Windows; {elsewhere}"
    if kind == "datacenter" and engine.name == "vllm":
        return f"vLLM needs WSL2 on Windows, and WSL2 does not show it a data-centre GPU such as {name}; {elsewhere}"
    if kind == "datacenter" and engine.platform == "rocm":
        return f"AMD's driver for Windows knows no data-centre GPU such as {name}; {elsewhere}"
    return None


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """The script, and what it starts from: Ollama's Modelfile, or WSL's half for vLLM."""
    server, best = native(plan), plan.best
    shared = {
        "title": headline(plan),
        "server": server,
        "served_name": best.model.served_name,
        "version": best.engine.version,
        "budget_s": plan.best.limits.startup_budget_seconds,
        "memory_gib": ceil_div(best.limits.host_memory_bytes, GIB) + WSL_SPARE_GIB,
        "script": SCRIPT,
        "requirements": (f"vllm=={best.engine.version}", *plugins.requirements(best.engine)),
        "gated": token_need(best, plan.resolved) == "required",
    }
    script = fill("windows/windows.ps1.j2", **shared)
    # without the mark Windows PowerShell reads another encoding
    files = {FILE: script if script.isascii() else f"\ufeff{script}"}
    if server.engine == "vllm":
        files[SCRIPT] = fill("windows/wsl-vllm.sh.j2", **shared)
    if server.engine == "ollama":
        files["Modelfile"] = modelfile(plan)
    return files


def paths(plan: Plan) -> tuple[str, ...]:
    """What lies beside the script."""
    return {"vllm": (SCRIPT,), "ollama": ("Modelfile",)}.get(plan.best.engine.name, ())


TARGET = Target(
    "windows",
    "Windows: native Ollama and llama-server, vLLM in WSL2",
    (FILE,),
    refuses,
    render,
    default=False,
    extra=paths,
)
