"""Runs tasks in a thread of this process: no start-up cost, but no protection from a crash either."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace

from .base import Handle, Job, Runner, Stopped
from .execution import failure, read_only, run_job
from .reporting import ReportingContext


class _InProcessHandle(Handle):
    def __init__(self, job: Job):
        super().__init__(job)
        self.context = ReportingContext(self.put, job.device, job.seed)

    def finish(self):
        self.context.finish()

    def cancel(self):
        """Ask the task to stop; it does when it next reports progress, since a thread cannot be killed."""
        self.context.cancel()


class InProcessRunner(Runner):
    """One background thread that does the jobs in the order they came.

    Tasks see arrays only, never MRML or Qt, so they need not run on the main thread. The arrays are not
    copied: whoever submits a job leaves them alone until it is over.
    """

    name = "in_process"
    title = "In this process"

    def __init__(self):
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[_InProcessHandle | None] | None = None
        self._open: set[_InProcessHandle] = set()

    def submit(self, job: Job) -> Handle:
        with self._lock:
            handle = _InProcessHandle(job)
            if self._waiting is None:
                self._waiting = queue.SimpleQueue()
                threading.Thread(target=self._work, args=(self._waiting,), name="MedImgAI", daemon=True).start()
            self._open.add(handle)
            self._waiting.put(handle)
        return handle

    def close(self):
        """Cancel what runs and waits; the thread ends with the job under way. A later submit starts a new one."""
        with self._lock:
            for handle in self._open:
                handle.cancel()
            if self._waiting is not None:
                self._waiting.put(None)
                self._waiting = None

    def _work(self, waiting: queue.SimpleQueue):
        while (handle := waiting.get()) is not None:
            event = Stopped()
            if not handle.context.is_cancelled():
                try:
                    job = replace(handle.job, inputs=read_only(handle.job.inputs))
                    event = run_job(job, handle.context, isolated=False)
                except Exception as error:
                    event = failure(error, handle.job.task_id)
            if handle.context.is_cancelled():
                event = Stopped()
            handle.put(event)
            with self._lock:
                self._open.discard(handle)
