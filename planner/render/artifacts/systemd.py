"""`systemd.service`: vLLM, Ollama or llama-server as a unit, up only when it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.arguments import is_local
from planner.render.artifacts.docker import headline
from planner.render.artifacts.ollama import modelfile
from planner.render.native import Native, native, why_not_native
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "systemd.service"
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
        "vllm": {"HF_HOME": f"{state}/huggingface", "VLLM_CACHE_ROOT": f"{state}/vllm", "HOME": state},
        "ollama": {"OLLAMA_MODELS": f"{state}/models", "HOME": state, "MODEL": plan.best.model.served_name},
        "llamacpp": {"LLAMA_CACHE": f"{state}/models", "HOME": state},
    }[server.engine]
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
        budget_s=limits.startup_budget_seconds,
        grace_s=limits.termination_grace_seconds,
        limit_interval_s=3 * limits.startup_budget_seconds,
        protect_home="read-only" if is_local(plan.best.model) else "yes",
    )
    files = {FILE: text}
    if server.engine == "ollama":
        files["Modelfile"] = modelfile(plan)
    return files


def _instructions(plan: Plan, server: Native) -> list[str]:
    """How to install what the unit starts, and the unit."""
    best = plan.best
    install = {
        "vllm": f"python3 -m venv /opt/vllm && /opt/vllm/bin/pip install vllm=={best.engine.version}"
        + (f" {best.engine.plugin}" if best.engine.plugin else ""),
        "ollama": f"curl -fsSL https://ollama.com/install.sh | OLLAMA_VERSION={best.engine.version} sh",
        "llamacpp": f"build or download llama.cpp {best.engine.version}; llama-server goes to /usr/local/bin",
    }[server.engine]
    lines = [f"Engine: {install}"]
    if server.engine == "vllm" and best.engine.platform != "cuda":
        lines.append(f"The wheel of PyPI is built for CUDA; for {best.engine.platform} follow docs.vllm.ai.")
    if server.engine == "ollama":
        lines.append("Model:  sudo install -D -m 644 Modelfile /etc/llm/Modelfile")
        lines.append("Ollama's own unit is replaced: sudo systemctl disable --now ollama")
    lines.append(f"Unit:   sudo install -m 644 {FILE} /etc/systemd/system/{server.name}.service")
    lines.append(f"Start:  sudo systemctl daemon-reload && sudo systemctl enable --now {server.name}")
    return lines


TARGET = Target("systemd", "systemd unit (vLLM, Ollama, llama-server)", (FILE,), refuses, render, default=False)
