"""Tasks that do what a worker process must survive; found through MEDIMGAI_EXTRA_LIBRARIES."""

import ctypes
import os
import subprocess
import sys
import time

import numpy as np
from MedImgAILib.core import ChoiceParameter, IntegerParameter, Task, VolumePort
from MedImgAILib.core.errors import InputError, MissingPackageError

MODES = (
    "double", "steps", "iterate", "many_reports", "hold_gil", "ignore_cancel", "exit", "segfault", "noise", "flood",
    "child", "value_error", "input_error", "missing_package", "memory_error", "allocate", "system_exit", "write_input",
    "big_output", "not_task_data", "random",
)  # fmt: skip


class Misbehave(Task):
    """Does what ``mode`` says."""

    id = "test.misbehave"
    title = "Misbehave"
    group = "Test"
    summary = "Misbehaves in the chosen way."
    inputs = (VolumePort("image", "Image", components=()),)
    parameters = (
        ChoiceParameter("mode", "Mode", "double", choices={m: m for m in MODES}),
        IntegerParameter("count", "Count", 20, minimum=0),
    )
    outputs = (VolumePort("result", "Result", components=()),)
    can_finish_early = True

    def run(self, inputs, parameters, context):
        getattr(self, "_" + parameters.mode, lambda *_: None)(parameters.count, context, inputs.image)
        array = inputs.image.array * 2
        if parameters.mode == "random":
            array = context.rng.random(array.shape)
        if parameters.mode == "big_output":
            array = np.repeat(array[..., None], parameters.count, axis=-1)
        return {"result": inputs.image.with_array(array, name="result")}

    def _steps(self, count, context, _image):
        for step in range(count):
            time.sleep(0.05)
            context.progress((step + 1) / count, f"step {step + 1}")

    def _iterate(self, count, context, _image):
        for step in range(1, count + 1):
            context.curve("Objective/value", step, 1.0 / step)
            context.progress(step / count)
            if context.finish_early:
                context.log(f"ended at {step}")
                return
            time.sleep(0.02)

    def _many_reports(self, count, context, _image):
        for step in range(count):
            context.progress(step / count, f"step {step}")
        time.sleep(0.2)

    def _hold_gil(self, count, context, _image):
        context.progress(0.5, "holding")
        time.sleep(0.1)
        ctypes.PyDLL(None).sleep(count)

    def _ignore_cancel(self, count, context, _image):
        context.progress(0.5, "ignoring")
        time.sleep(count)

    def _exit(self, count, context, _image):
        os._exit(count)

    def _segfault(self, _count, context, _image):
        ctypes.string_at(0)

    def _noise(self, _count, context, _image):
        libc = ctypes.CDLL(None)
        print("from print")
        os.write(1, b'{"op": "finished", "number": 1, "folder": "result-noise"}\n')
        libc.puts(b"from puts")
        libc.fflush(None)
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        sys.stderr.write("10 %\r50 %\rwhole bar\n")

    def _flood(self, count, context, _image):
        for _ in range(count):
            os.write(1, b"x" * 1000 + b"\n")
        os.write(2, b"y" * 5_000_000)

    def _child(self, count, context, _image):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        context.log(f"child {child.pid}")
        ctypes.PyDLL(None).sleep(count)

    def _value_error(self, *_):
        raise ValueError("an inner matter")

    def _input_error(self, *_):
        raise InputError("The image is upside down.")

    def _missing_package(self, *_):
        raise MissingPackageError("It needs a package.", ("nosuch>=1",))

    def _memory_error(self, *_):
        raise RuntimeError("CUDA error: out of memory")

    def _allocate(self, *_):
        np.zeros(1 << 60, np.uint8)

    def _system_exit(self, *_):
        raise SystemExit(2)

    def _write_input(self, _count, _context, image):
        image.array[...] = 0

    def _not_task_data(self, _count, context, _image):
        context.used_model("m", object())
