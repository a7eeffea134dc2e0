"""`systemd.service`: vLLM, Ollama or llama-server as a unit, up only when it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import plugins
from planner.render.arguments import is_local
from planner.render.artifacts.docker import headline
from planner.render.artifacts.ollama import modelfile
from planner.render.native import Native, downloads, native, why_not_native
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "systemd.service"
CRASHES, CRASH_WINDOW_S = 5, 600
"""So many failed starts within so many seconds are no accident. A start that runs out of time takes longer than a
fifth of the window, so it is tried again and goes on with its download."""
_DOCUMENTATION = {
    "vllm": "https://docs.vllm.ai",
    "ollama": "https://docs.ollama.com",
    "llamacpp": "https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
}
_INSTALLATION = {
    "gpu": "https://docs.vllm.ai/en/stable/getting_started/installation/gpu/",
    "cpu": "https://docs.vllm.ai/en/stable/getting_started/installation/cpu/",
    "gaudi": "https://docs.vllm.ai/projects/gaudi/en/latest/",
}
RECIPE_CACHE_MB = 16384
"""What Gaudi's compiled graphs may take, so that the next start is shorter."""
_PROGRAMS = {
    "vllm": "/opt/vllm/bin/vllm serve",
    "ollama": "/usr/local/bin/ollama",
    "llamacpp": "/usr/local/bin/llama-server",
}


def refuses(plan: Plan) -> str | None:
    """What has no native server, and systems without systemd."""
    if plan.best.engine.platform == "metal":
        return "macOS has launchd, not systemd: use target launchd"
    return why_not_native(plan)


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """The unit, and for Ollama the Modelfile that it creates the model from."""
    server, limits = native(plan), plan.best.limits
    state = f"/var/lib/{server.name}"
    caches = {
        "vllm": {
            "HF_HOME": f"{state}/huggingface",
            "VLLM_CACHE_ROOT": f"{state}/vllm",
            "HOME": state,
            "PATH": "/opt/vllm/bin:/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin",
        },
        "ollama": {"OLLAMA_MODELS": f"{state}/models", "HOME": state, "MODEL": plan.best.model.served_name},
        "llamacpp": {"LLAMA_CACHE": f"{state}/models", "HOME": state},
    }[server.engine]
    if server.engine == "vllm" and plan.best.engine.platform == "gaudi":
        caches["PT_HPU_RECIPE_CACHE_CONFIG"] = f"{state}/recipes,false,{RECIPE_CACHE_MB}"
    text = fill(
        "native/systemd.service.j2",
        title=headline(plan),
        instructions=_instructions(plan, server),
        name=server.name,
        engine=server.engine,
        user="ollama" if server.engine == "ollama" else server.name[:31],
        device_groups=plan.best.engine.platform in ("rocm", "xpu"),
        program=_PROGRAMS[server.engine],
        words=server.words,
        environment={**server.environment, **caches},
        health_url=server.health_url,
        documentation=_DOCUMENTATION[server.engine],
        start_s=limits.startup_budget_seconds,
        load_s=round(limits.load_seconds),
        download=downloads(plan),
        grace_s=limits.termination_grace_seconds,
        crashes=CRASHES,
        crash_window_s=CRASH_WINDOW_S,
        protect_home="read-only" if is_local(plan.best.model) else "yes",
    )
    files = {FILE: text}
    if server.engine == "ollama":
        files["Modelfile"] = modelfile(plan)
    return files


def _instructions(plan: Plan, server: Native) -> list[str]:
    """How to install what the unit starts, and the unit."""
    best = plan.best
    pinned = " ".join((f"vllm=={best.engine.version}", *plugins.requirements(best.engine)))
    install = {
        "vllm": f"sudo python3 -m venv /opt/vllm && sudo /opt/vllm/bin/pip install {pinned}",
        "ollama": f"curl -fsSL https://ollama.com/install.sh | OLLAMA_VERSION={best.engine.version} sh",
        "llamacpp": f"build or download llama.cpp {best.engine.version}; llama-server goes to /usr/local/bin",
    }[server.engine]
    if server.engine == "vllm" and best.engine.platform != "cuda":
        where = _INSTALLATION.get(best.engine.platform, _INSTALLATION["gpu"])
        install = f"vLLM {best.engine.version} for {best.engine.platform} into a venv at /opt/vllm, as {where} says"
    lines = [f"Engine: {install}"]
    if server.engine == "ollama":
        lines.append("Model:  sudo install -D -m 644 Modelfile /etc/llm/Modelfile")
        lines.append("Ollama's own unit is replaced: sudo systemctl disable --now ollama")
    lines.append(f"Unit:   sudo install -m 644 {FILE} /etc/systemd/system/{server.name}.service")
    lines.append(f"Start:  sudo systemctl daemon-reload && sudo systemctl enable --now {server.name}")
    return lines


def paths(plan: Plan) -> tuple[str, ...]:
    """What the unit creates its model from."""
    return ("Modelfile",) if plan.best.engine.name == "ollama" else ()


TARGET = Target(
    "systemd", "systemd unit (vLLM, Ollama, llama-server)", (FILE,), refuses, render, default=False, extra=paths
)
