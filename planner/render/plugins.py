"""The image of an engine with a plugin that the stock image lacks: its name, what it adds, why it cannot be made.

vLLM reads GGUF (since 0.24) and bitsandbytes (since 0.28) through such plugins only. Versions are facts of
catalog/companions.yaml; a plan may name a version itself (`name==version`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from planner.render import names
from planner.render.quoting import printable

if TYPE_CHECKING:
    from planner.spec.companion import EnginePlugin
    from planner.spec.plan import EngineChoice

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._!+-]*", re.ASCII)
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*", re.ASCII)


def known(choice: EngineChoice) -> EnginePlugin | None:
    """The catalogued plugin behind the plan's name for it."""
    from planner.sources.companions import engine_plugin

    return engine_plugin((choice.plugin or "").partition("==")[0])


def requirements(choice: EngineChoice) -> tuple[str, ...]:
    """Pinned requirements, the plugin first; empty where no version is known."""
    plugin, asked = known(choice), choice.plugin or ""
    if "==" in asked:
        rest = plugin.requirements[1:] if plugin and asked == plugin.requirements[0] else ()
        return (asked, *rest)
    return plugin.requirements if plugin else ()


def why_no_derived_image(choice: EngineChoice, base: str) -> str | None:
    """Why `base` cannot be given the plan's plugin; None when it can, or when the plan has none."""
    if choice.plugin is None:
        return None
    pinned, plugin = requirements(choice), known(choice)
    if not pinned:
        return f"no version of the plugin {printable(choice.plugin)[:60]} is known, and an image pins what it holds"
    if plugin is not None and choice.platform not in plugin.platforms:
        return f"{plugin.id} is published for {', '.join(plugin.platforms)}, not for {choice.platform}: {plugin.note}"
    bad = next((text for text in pinned if not _REQUIREMENT.fullmatch(text)), None)
    if bad is not None:
        return f"{printable(bad)[:80]!r} is no pinned requirement (name==version), so no image installs it"
    if not _REFERENCE.fullmatch(base) or not names.has_fixed_tag(base):
        return f"an image is derived from a pinned reference, and {printable(base)[:80]!r} is none"
    return None


def derived_reference(choice: EngineChoice) -> str:
    """Name and tag of the derived image: local until somebody pushes it to a registry."""
    name, _, version = requirements(choice)[0].partition("==")
    tag = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{choice.version}-{version}")[:128]
    return f"{names.slug(name)}:{tag}"
