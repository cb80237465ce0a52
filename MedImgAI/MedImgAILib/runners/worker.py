"""Runs tasks in a worker process that stays warm, can be killed at any time, and takes nothing with it."""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections import deque
from pathlib import Path

from ..core.errors import InputError, MedImgAIError, ResourceError, WorkerDied
from .base import Curve, Event, Failed, Finished, Handle, Job, Log, Progress, Runner, Stopped
from .execution import failure, rebuild_error
from .worker_process import WorkerProcess
from .workspace import Workspace, read_data, remove_data, write_data

GRACE_S = 1.0
"""How long a cancelled task may take to stop by itself before its process is killed."""

logger = logging.getLogger("MedImgAI")


class _WorkerHandle(Handle):
    def __init__(self, job: Job, number: int, inbox: queue.SimpleQueue):
        super().__init__(job)
        self.number = number
        self.folder: Path | None = None
        self.is_cancelled = False
        self.is_finishing = False
        self.is_started = False
        """Whether a worker has begun with it; until then its worker's death is none of its fault."""
        self.attempts = 0
        self.is_done = False
        self._inbox = inbox

    def cancel(self):
        self._inbox.put(("cancel", self))

    def finish(self):
        self._inbox.put(("finish", self))

    def put(self, event: Event):
        if not self.is_done:
            self.is_done = isinstance(event, (Finished, Failed, Stopped))
            super().put(event)


class WorkerRunner(Runner):
    """One worker process for all jobs, started at the first and done in the order they came.

    The inputs are copied into shared memory by :meth:`submit`, so they may change afterwards; result arrays
    are mapped copy-on-write. If the worker dies, its job reports :class:`WorkerDied` and the next job gets a new
    worker. A thread of this object owns all state and takes messages from the others.
    """

    name = "worker"
    title = "Worker process"

    def __init__(self):
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue | None = None
        self._thread: threading.Thread | None = None
        self._workspace: Workspace | None = None
        self._count = 0
        self._process: WorkerProcess | None = None
        self._pending: deque[_WorkerHandle] = deque()
        self._current: _WorkerHandle | None = None
        self._kill_at: float | None = None
        self._restart_wanted = False

    # Called by anyone

    def submit(self, job: Job) -> Handle:
        with self._lock:
            try:
                self._open()
            except OSError as error:
                return _failed_at_once(job, ResourceError(f"No working folder can be made: {error.strerror}."))
            self._count += 1
            handle = _WorkerHandle(job, self._count, self._inbox)
            try:
                # As much room again is wanted, for the results.
                handle.folder = write_data((job.inputs, job.parameters), self._workspace.roots, "job-", room_factor=2)
            except MedImgAIError as error:
                return _failed_at_once(job, error)
            except TypeError as error:
                return _failed_at_once(job, InputError(f"An input cannot be sent to the worker process: {error}"))
            self._inbox.put(("submit", handle))
        return handle

    def warm_up(self):
        """Start the worker ahead of the first job, without waiting for it."""
        with self._lock:
            self._open()
            self._inbox.put(("warm_up",))

    def restart(self):
        """Let the next job have a new process, as after an update of packages; the job under way goes on."""
        with self._lock:
            if self._inbox is not None:
                self._inbox.put(("restart",))

    def close(self):
        """Stop all jobs, end the process and remove the folders. A later submit starts anew."""
        with self._lock:
            if self._thread is not None:
                self._inbox.put(("close",))
                self._thread.join()
                self._workspace.close()
                self._thread = self._inbox = self._workspace = None

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker that is ready for work, if there is one."""
        process = self._process
        return process.worker_pid if process is not None else None

    def _open(self):
        if self._thread is None:
            self._workspace = Workspace()
            self._inbox = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=self._serve, args=(self._inbox,), name="MedImgAI worker", daemon=True
            )
            self._thread.start()

    # On the runner's own thread

    def _serve(self, inbox: queue.SimpleQueue):
        while True:
            timeout = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
            try:
                what, *rest = inbox.get(timeout=timeout)
            except queue.Empty:
                self._kill()
                self._end_job(Stopped())
                continue
            if what == "close":
                self._shut_down()
                return
            try:
                getattr(self, f"_on_{what}")(*rest)
            except Exception as error:
                # A fault here must not leave the host waiting for ever.
                logger.exception("The worker's runner failed on '%s'.", what)
                self._kill()
                if self._current is not None:
                    self._end_job(failure(error, self._current.job.task_id))

    def _on_submit(self, handle: _WorkerHandle):
        self._pending.append(handle)
        if self._current is not None:
            handle.put(Progress(0.0, "Waiting for another job"))
        self._start_next()

    def _on_warm_up(self):
        if self._process is None:
            try:
                self._start_process()
            except OSError:
                logger.exception("The worker process could not be started ahead of time.")

    def _on_restart(self):
        if self._current is not None:
            self._restart_wanted = True
        elif self._process is not None:
            self._kill()

    def _on_cancel(self, handle: _WorkerHandle):
        if handle.is_done or handle.is_cancelled:
            return
        handle.is_cancelled = True
        if handle is not self._current:
            self._pending.remove(handle)
            self._finish(handle, Stopped())
            return
        self._kill_at = time.monotonic() + GRACE_S
        self._send(op="cancel", number=handle.number)

    def _on_finish(self, handle: _WorkerHandle):
        handle.is_finishing = True
        if handle is self._current and not handle.is_done:
            self._send(op="finish", number=handle.number)

    def _on_message(self, process: WorkerProcess, message: dict):
        if process is not self._process:
            return
        if message["op"] == "died":
            self._on_end(process, message["code"])
            return
        handle = self._current
        if handle is None or message.get("number") != handle.number:
            return
        match message["op"]:
            case "started":
                handle.is_started = True
            case "progress":
                handle.put(Progress(message["fraction"], message["message"]))
            case "curve":
                handle.put(Curve(tuple((str(name), float(x), float(y)) for name, x, y in message["points"])))
            case "log":
                handle.put(Log(message["level"], message["message"]))
            case "failed":
                self._end_job(Failed(rebuild_error(message["error"]), message["details"]))
            case "stopped":
                self._end_job(Stopped())
            case "finished":
                self._end_job(_result(self._workspace.result_folder(message["folder"])))

    def _on_output(self, process: WorkerProcess, line: str):
        logger.debug("worker: %s", line)
        if process is self._process and self._current is not None:
            self._current.put(Log(logging.DEBUG, line))

    def _on_end(self, process: WorkerProcess, code: int | None = None):
        if process is not self._process:
            return
        self._process = None
        process.kill()
        handle = self._current
        if handle is None:
            logger.warning("The idle worker process ended (%s).", code)
        elif not (handle.is_started or handle.is_cancelled) and handle.attempts < 2:
            self._current = None
            self._pending.appendleft(handle)
            self._start_next()
        else:
            self._end_job(Failed(WorkerDied(_obituary(code)), "\n".join(process.tail)))

    def _start_process(self):
        inbox = self._inbox

        def forward(what):
            return lambda *rest: inbox.put((what, *rest))

        self._process = WorkerProcess(self._workspace.roots, forward("message"), forward("output"), forward("end"))

    def _start_next(self):
        if self._current is not None or not self._pending:
            return
        handle = self._current = self._pending.popleft()
        handle.attempts += 1
        try:
            if self._process is None:
                handle.put(Progress(0.0, "Starting the worker process"))
                self._start_process()
        except OSError as error:
            self._end_job(Failed(WorkerDied(f"The worker process cannot be started: {error.strerror}."), str(error)))
            return
        self._process.allow_output()
        job = handle.job
        order = {"task": job.task_id, "folder": str(handle.folder), "device": job.device, "seed": job.seed}
        self._send(op="run", number=handle.number, **order)
        if handle.is_finishing:
            self._send(op="finish", number=handle.number)

    def _send(self, **order):
        try:
            self._process.send(**order)
        except OSError:
            logger.debug("The worker process is gone; its end is about to be reported.")

    def _end_job(self, event: Event):
        handle, self._current, self._kill_at = self._current, None, None
        if handle.is_cancelled:
            event = Stopped()
        if self._restart_wanted:
            self._restart_wanted = False
            self._kill()
        self._workspace.remove_results()
        self._finish(handle, event)
        self._start_next()

    def _finish(self, handle: _WorkerHandle, event: Event):
        # The folder goes first: who sees the last event finds nothing left behind.
        remove_data(handle.folder)
        handle.put(event)

    def _kill(self):
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def _shut_down(self):
        self._kill()
        self._kill_at = None
        for handle in filter(None, (self._current, *self._pending)):
            self._finish(handle, Stopped())
        self._current = None
        self._pending.clear()


def _result(folder: Path | None) -> Event:
    if folder is None:
        return Failed(WorkerDied("The worker process named a result that does not exist; try again."))
    try:
        return Finished(read_data(folder, writable=True))
    except Exception as error:
        return failure(error, "the worker's result")
    finally:
        remove_data(folder)


def _failed_at_once(job: Job, error: MedImgAIError) -> Handle:
    handle = _WorkerHandle(job, 0, queue.SimpleQueue())
    handle.put(Failed(error))
    return handle


def _obituary(code: int | None) -> str:
    """One sentence on why a process ended, from its exit code (negative: a signal)."""
    again = "your data are unchanged and you can try again"
    if code is None:
        return f"The worker process ended unexpectedly; {again}."
    if code == -signal.SIGTERM or code == -getattr(signal, "SIGKILL", 9):
        return f"The worker process was killed, as happens when memory runs out; {again}, perhaps on a smaller image."
    if code < 0:
        try:
            what = signal.Signals(-code).name
        except ValueError:
            what = f"signal {-code}"
        return f"The worker process crashed ({what}); {again}."
    if code >= 0xC0000000:
        return f"The worker process crashed (0x{code:08X}); {again}."
    return f"The worker process ended unexpectedly with exit code {code}; {again}."
