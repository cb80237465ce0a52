"""Runners: the same job description in, the same events out, wherever the work is done."""

from .base import Event, Failed, Finished, Handle, Job, Log, Progress, Runner, Stopped

__all__ = ["Event", "Failed", "Finished", "Handle", "Job", "Log", "Progress", "Runner", "Stopped"]
