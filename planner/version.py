"""The version, in one place: read by the build, printed by `planner --version`, kept in plans."""

__version__ = "0.1.0"
