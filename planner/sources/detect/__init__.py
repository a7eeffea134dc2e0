"""This machine, or a cluster: what its own tools report, as a Machine of the catalog's parts.

`inspect` gathers facts, `detect` turns them into a Machine: peaks and links come from the catalog by the
device's name, memory as the driver reports it here. Nothing is read but what the tools print.
"""

from planner.sources.detect.machine import Detected, detect, inspect

__all__ = ["Detected", "detect", "inspect"]
