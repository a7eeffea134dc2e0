"""`Dockerfile`: the planned image with the plugin that the stock one lacks, for GGUF or bitsandbytes on vLLM."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from planner.render import plugins
from planner.render.artifacts.docker import headline
from planner.render.launch import find_image, plan_launch, why_no_image
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "Dockerfile"


def refuses(plan: Plan) -> str | None:
    """Only a plan whose engine needs a plugin derives an image."""
    if plan.best.engine.plugin is None:
        return "the stock image holds all that this plan needs"
    return why_no_image(plan)


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file."""
    return {FILE: dockerfile(plan)}


def dockerfile(plan: Plan) -> str:
    """The Dockerfile of a plan that `refuses` lets through."""
    choice, launch = plan.best.engine, plan_launch(plan)
    image, plugin = find_image(plan.best, plan.resolved), plugins.known(choice)
    assert image is not None and launch.derived_from is not None
    name = plugins.requirements(choice)[0].partition("==")[0]
    notes = [plugin.note] if plugin and plugin.note else []
    if not (choice.image_verified or image.verified):
        notes.append("Its tag follows the release pattern; nobody has confirmed that the registry holds it.")
    return fill(
        "image/Dockerfile.j2",
        title=headline(plan),
        base=launch.derived_from,
        image=launch.image,
        engine_pin=f"{choice.name}=={choice.version}",
        pinned=plugins.requirements(choice),
        entry_point=plugin.entry_point if plugin else name,
        notes=notes,
        user=launch.user,
        home=str(PurePosixPath(launch.volumes[0].path).parent.parent),
    )


TARGET = Target(
    "image",
    "Image with the engine's plugin (GGUF, bitsandbytes on vLLM)",
    (FILE,),
    refuses,
    render,
    default=False,
    needed=lambda plan: plan.best.engine.plugin is not None,
)
