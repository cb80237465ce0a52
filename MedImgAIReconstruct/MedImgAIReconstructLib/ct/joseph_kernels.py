"""Compiled loops of the ray-driven projectors, for :mod:`.projector`.

Sixteen slices are one vector: numba's own vectoriser leaves this inner loop five times slower, so the two vector
steps are given to LLVM directly. Built when first used, because numba is optional.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

import numpy as np

LANES = 16
"""Slices that are computed together."""

lerp_add = scatter_add = None
"""Set by :func:`kernels`."""


@lru_cache(maxsize=1)
def vector_steps():
    """``(lerp_add, scatter_add)``: intrinsics on 16 float32 at a flat index.

    ``lerp_add(acc, data, q, g, f)`` is acc[:] += g·data[q:q+16] + f·data[q+16:q+32];
    ``scatter_add(data, q, g, f, value)`` its adjoint.
    """
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    i32, i64 = ir.IntType(32), ir.IntType(64)
    vector = ir.VectorType(ir.FloatType(), LANES)

    def pointer(context, builder, array_type, array, index):
        data = context.make_array(array_type)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

    def load(builder, address):
        value = builder.load(address)
        value.align = 4
        return value

    def store(builder, value, address):
        builder.store(value, address).align = 4

    def splat(builder, scalar):
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(i32, 0))
        mask = ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)
        return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)

    def fma(builder, a, b, c):
        kind = ir.FunctionType(vector, [vector] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32"), [a, b, c])

    @intrinsic
    def lerp_add(typing, acc, data, q, g, f):
        def generate(context, builder, signature, args):
            low = pointer(context, builder, signature.args[1], args[1], args[2])
            next_index = builder.add(args[2], ir.Constant(i64, LANES))
            high = pointer(context, builder, signature.args[1], args[1], next_index)
            total = pointer(context, builder, signature.args[0], args[0], ir.Constant(i64, 0))
            value = fma(builder, splat(builder, args[3]), load(builder, low), load(builder, total))
            store(builder, fma(builder, splat(builder, args[4]), load(builder, high), value), total)
            return context.get_dummy_value()

        return types.void(acc, data, types.intp, types.float32, types.float32), generate

    @intrinsic
    def scatter_add(typing, data, q, g, f, value):
        def generate(context, builder, signature, args):
            low = pointer(context, builder, signature.args[0], args[0], args[1])
            next_index = builder.add(args[1], ir.Constant(i64, LANES))
            high = pointer(context, builder, signature.args[0], args[0], next_index)
            ray = load(builder, pointer(context, builder, signature.args[4], args[4], ir.Constant(i64, 0)))
            old_low, old_high = load(builder, low), load(builder, high)
            store(builder, fma(builder, splat(builder, args[2]), ray, old_low), low)
            store(builder, fma(builder, splat(builder, args[3]), ray, old_high), high)
            return context.get_dummy_value()

        return types.void(data, types.intp, types.float32, types.float32, value), generate

    return lerp_add, scatter_add


def planes(start, slope, width, low, high):
    """The planes ``first`` … ``stop`` − 1 of low … high − 1 where 0 ≤ start + slope·d < width − 1."""
    limit = width - 1.0 - 1e-5
    if slope > 1e-9:
        first, last = -start / slope, (limit - start) / slope
    elif slope < -1e-9:
        first, last = (limit - start) / slope, -start / slope
    elif 0.0 <= start <= limit:
        return low, high
    else:
        return low, low
    first, last = max(first, low - 1.0), min(last, high + 1.0)
    return max(low, int(np.ceil(first))), min(high, int(np.floor(last)) + 1)


def stack_forward(image, chosen, start, slope, length, view_low, view_high, block, out):
    depth, width, lanes = image.shape
    data = image.reshape(depth * width * lanes)
    acc = np.zeros(lanes, np.float32)
    for low in range(0, depth, block):
        for view in range(view_low, view_high):
            for u in range(start.shape[1]):
                if not chosen[view, u]:
                    continue
                s, m = start[view, u] + 1.0, slope[view, u]
                first, stop = planes(s, m, width, low, min(depth, low + block))
                if first >= stop:
                    continue
                acc[:] = 0.0
                for d in range(first, stop):
                    p = s + m * d
                    i = int(p)
                    f = np.float32(p - i)
                    lerp_add(acc, data, (d * width + i) * lanes, np.float32(1.0) - f, f)
                factor = np.float32(length[view, u])
                for b in range(lanes):
                    out[view, u, b] += factor * acc[b]


def stack_adjoint(sinogram, chosen, start, slope, length, low, high, image):
    depth, width, lanes = image.shape
    data = image.reshape(depth * width * lanes)
    ray = np.zeros(lanes, np.float32)
    for view in range(sinogram.shape[0]):
        for u in range(start.shape[1]):
            if not chosen[view, u]:
                continue
            s, m = start[view, u] + 1.0, slope[view, u]
            first, stop = planes(s, m, width, low, high)
            if first >= stop:
                continue
            factor = np.float32(length[view, u])
            for b in range(lanes):
                ray[b] = factor * sinogram[view, u, b]
            for d in range(first, stop):
                p = s + m * d
                i = int(p)
                f = np.float32(p - i)
                scatter_add(data, (d * width + i) * lanes, np.float32(1.0) - f, f, ray)


def cone_forward(image, chosen, start, slope, lift, rise, v, z, view_low, view_high, block, out):
    depth, width, height = image.shape
    line = np.zeros(height, np.float32)
    for low in range(0, depth, block):
        for view in range(view_low, view_high):
            for u in range(start.shape[1]):
                if not chosen[view, u]:
                    continue
                s, m = start[view, u] + 1.0, slope[view, u]
                first, stop = planes(s, m, width, low, min(depth, low + block))
                total = out[view, u]
                for d in range(first, stop):
                    p = s + m * d
                    i = int(p)
                    f = np.float32(p - i)
                    g = np.float32(1.0) - f
                    left, right = image[d, i], image[d, i + 1]
                    for k in range(height):
                        line[k] = g * left[k] + f * right[k]
                    # The image has a border of one voxel in z, too.
                    step = (lift[view, u] + rise[view, u] * d) * v[1] / z[1]
                    base = (lift[view, u] + rise[view, u] * d) * v[0] / z[1] - z[0] / z[1] + 1.0
                    row, row_stop = planes(base, step, height, 0, total.shape[0])
                    for r in range(row, row_stop):
                        q = np.float32(base + step * r)
                        n = np.uint32(np.int32(q))
                        below = line[n]
                        total[r] += below + (q - np.float32(np.int32(q))) * (line[n + np.uint32(1)] - below)


def cone_adjoint(sinogram, chosen, start, slope, lift, rise, v, z, low, high, image):
    depth, width, height = image.shape
    line = np.zeros(height, np.float32)
    for view in range(sinogram.shape[0]):
        for u in range(start.shape[1]):
            if not chosen[view, u]:
                continue
            s, m = start[view, u] + 1.0, slope[view, u]
            first, stop = planes(s, m, width, low, high)
            ray = sinogram[view, u]
            for d in range(first, stop):
                p = s + m * d
                i = int(p)
                f = np.float32(p - i)
                g = np.float32(1.0) - f
                step = (lift[view, u] + rise[view, u] * d) * v[1] / z[1]
                base = (lift[view, u] + rise[view, u] * d) * v[0] / z[1] - z[0] / z[1] + 1.0
                row, row_stop = planes(base, step, height, 0, ray.shape[0])
                if row >= row_stop:
                    continue
                line[:] = 0.0
                for r in range(row, row_stop):
                    q = np.float32(base + step * r)
                    n = np.uint32(np.int32(q))
                    part = (q - np.float32(np.int32(q))) * ray[r]
                    line[n] += ray[r] - part
                    line[n + np.uint32(1)] += part
                left, right = image[d, i], image[d, i + 1]
                for k in range(height):
                    left[k] += g * line[k]
                    right[k] += f * line[k]


@lru_cache(maxsize=1)
def kernels() -> SimpleNamespace:
    """The loops of this file, compiled.

    All but :func:`planes` take the rays' tables of :class:`.projector.RayTable` with ``chosen`` telling which rays are
    driven along the image's first axis, images with a border of one zero voxel, and add to their last argument.
    """
    import numba

    options = {"nogil": True, "cache": True, "fastmath": {"reassoc", "contract", "arcp", "nsz"}}
    loops = {f.__name__: f for f in (stack_forward, stack_adjoint, cone_forward, cone_adjoint)}
    # Compiled code finds what it calls among the module's globals; at file scope these would need numba.
    names = globals()
    names["lerp_add"], names["scatter_add"] = vector_steps()
    names["planes"] = numba.njit(**options)(planes)
    return SimpleNamespace(**{name: numba.njit(**options)(loop) for name, loop in loops.items()})
