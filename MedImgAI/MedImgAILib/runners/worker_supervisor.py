"""Stands between the parent and the worker process so that the worker never outlives the parent.

It starts the worker, hands the parent's lines on to it, and reads on its own standard input, which ends when the
parent does, however the parent ended. Then it kills the worker with all that the worker started, even where
the worker is deep in a library and could not notice. It uses the standard library alone and waits most of its life.

Run as ``python worker_supervisor.py ROOT…`` with the folders to remove when the parent is gone. The line ``!kill``
ends the worker but keeps the folders. The worker's end is told as ``{"op": "died", "code": …}``.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

KILL = b"!kill\n"
PREFIX = "medimgai-worker-"
"""How the names of the folders begin that may be removed; no others are, whatever the arguments say."""
NEW_GROUP = {"creationflags": 0x08000000} if os.name == "nt" else {"process_group": 0}  # nt: CREATE_NO_WINDOW


def kill_group(process: subprocess.Popen):
    """Kill a process that was started with :data:`NEW_GROUP` and what it started."""
    try:
        if os.name == "nt":
            process.kill()  # its children end with the job object of this process
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # all of them are gone already


def bind_children_to_this_process():
    """On Windows, put this process in a job object that ends with it; its children are born into the same job."""
    import ctypes
    from ctypes import wintypes

    class BasicLimits(ctypes.Structure):
        _fields_ = [
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        ]

    class ExtendedLimits(ctypes.Structure):
        _fields_ = [
            ("Basic", BasicLimits),
            ("IoInfo", ctypes.c_uint64 * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        ]

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateJobObjectW.restype = wintypes.HANDLE
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    job = kernel.CreateJobObjectW(None, None)
    limits = ExtendedLimits()
    limits.Basic.LimitFlags = 0x2000  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
    kernel.SetInformationJobObject(wintypes.HANDLE(job), 9, ctypes.byref(limits), ctypes.sizeof(limits))
    kernel.AssignProcessToJobObject(wintypes.HANDLE(job), wintypes.HANDLE(kernel.GetCurrentProcess()))


def main(roots: list[str]):
    """Supervise one worker until it or the parent ends."""
    if os.name == "nt":
        bind_children_to_this_process()
    command = [sys.executable, "-m", "MedImgAILib.runners.worker_main", *roots]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, **NEW_GROUP)
    closing = threading.Event()

    def report_end():
        code = worker.wait()
        kill_group(worker)
        if not closing.is_set():
            # The newline ends what the worker may have been writing when it died.
            os.write(1, b"\n" + json.dumps({"op": "died", "code": code}).encode() + b"\n")
            os._exit(0)

    threading.Thread(target=report_end, daemon=True).start()
    keep_folders = False
    for line in sys.stdin.buffer:
        keep_folders = line == KILL
        if keep_folders:
            break
        with suppress(OSError):  # the worker has just died: the other thread reports it and exits
            worker.stdin.write(line)
    closing.set()
    kill_group(worker)
    worker.wait()
    if not keep_folders:
        for root in (root for root in roots if os.path.basename(root).startswith(PREFIX)):
            shutil.rmtree(root, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
