"""Runs tasks one after the other, prints what is happening, and keeps results and timings."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from MedImgAILib.core import Table, registry
from MedImgAILib.runners import Job, Log, Progress, runner


class Pipeline:
    """A scripted session: each step is a job for a runner, as the panel or the command would submit it.

    Parameters
    ----------
    total : int
        Number of steps that will be announced.
    """

    def __init__(self, total: int):
        self.total = total
        self.timings: list[tuple[str, str, float]] = []
        self.warnings: list[str] = []
        self._number = 0
        self._live = sys.stdout.isatty()

    def run(self, title: str, task_id: str, inputs: dict, parameters: dict | None = None, only=None) -> dict:
        """Run one task and return its outputs (or the output named ``only``)."""
        task = registry()[task_id]
        place = "worker" if task.isolated else "in_process"
        with self.step(title, f"{task_id}, {place.replace('_', ' ')}") as say:
            handle = runner(place).submit(Job(task_id, inputs, parameters or {}))

            def on_event(event):
                if isinstance(event, Progress):
                    say(event.fraction)
                elif isinstance(event, Log) and event.level >= 30:
                    self.warnings.append(f"{title}: {event.message}")

            outputs = handle.wait(on_event)
        return outputs[only] if only else outputs

    def step(self, title: str, how: str) -> _Step:
        """A step of other work (preparing data, writing files), for ``with``."""
        self._number += 1
        return _Step(self, f"[{self._number}/{self.total}] {title}", title, how, self._live)

    def timing_table(self) -> Table:
        titles, hows, seconds = zip(*self.timings, strict=True)
        columns = {"step": titles, "how": hows, "time": [round(s, 2) for s in seconds]}
        return Table(columns, "Timings", {"time": "s"})


class _Step:
    def __init__(self, pipeline: Pipeline, line: str, title: str, how: str, live: bool):
        self._pipeline, self._line, self._title, self._how, self._live = pipeline, line, title, how, live

    def __enter__(self):
        self._start = time.perf_counter()
        self._shown = -1
        print(f"{self._line} … ", end="", flush=True)
        return self._progress

    def _progress(self, fraction: float):
        percent = int(100 * fraction)
        if self._live and percent > self._shown:
            self._shown = percent
            print(f"\r{self._line} … {percent:3d} % ", end="", flush=True)

    def __exit__(self, kind, error, trace):
        seconds = time.perf_counter() - self._start
        if kind is None:
            self._pipeline.timings.append((self._title, self._how, seconds))
            print(f"\r{self._line} … done in {seconds:.1f} s" if self._live else f"done in {seconds:.1f} s", flush=True)
        else:
            print("failed", flush=True)


def relative(path: Path) -> str:
    """The path as a user in the project folder would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
