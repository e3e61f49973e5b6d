"""Vectors of floats inside compiled functions: what numba does not offer, as a few intrinsics.

A loop of scalars is vectorised by LLVM only where it can prove or cheaply check that arrays do not overlap, and it
keeps no block of a product in registers. So the inner code is written as vectors: each intrinsic works on `WIDTH`
neighbouring elements of flat float32 arrays, and numba compiles it into the loop that calls it.
"""

from collections.abc import Callable, Sequence
from math import factorial
from typing import Any

import llvmlite.binding  # type: ignore[import-untyped]
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

FLOAT, INT = ir.FloatType(), ir.IntType(32)


def _width() -> int:
    """Floats in a register of this processor, 8 at least."""
    try:
        return 16 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 8
    except RuntimeError:  # LLVM cannot tell
        return 8


WIDTH = _width()
"""Elements of a vector."""
VECTOR = ir.VectorType(FLOAT, WIDTH)
INTS = ir.VectorType(INT, WIDTH)


class Code:
    """Writes LLVM instructions on vectors; Python numbers stand for vectors of themselves."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def constant(self, value: Any) -> Any:
        """A vector of equal numbers; a vector stays as it is."""
        return ir.Constant(VECTOR, [float(value)] * WIDTH) if isinstance(value, int | float) else value

    def load(self, pointer: Any, index: Any) -> Any:
        """`WIDTH` elements from `index` on."""
        return self.builder.load(self._vector_at(pointer, index), align=4)

    def store(self, vector: Any, pointer: Any, index: Any) -> None:
        """The inverse of `load`."""
        self.builder.store(vector, self._vector_at(pointer, index), align=4)

    def spread(self, pointer: Any, index: Any) -> Any:
        """A vector of copies of one element."""
        element = self.builder.load(self.builder.gep(pointer, [index]), align=4)
        single = self.builder.insert_element(ir.Constant(VECTOR, ir.Undefined), element, INT(0))
        return self.builder.shuffle_vector(single, ir.Constant(VECTOR, ir.Undefined), ir.Constant(INTS, [0] * WIDTH))

    def _vector_at(self, pointer: Any, index: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [index]), VECTOR.as_pointer())

    def add(self, x: Any, y: Any) -> Any:
        """X + y."""
        return self.builder.fadd(self.constant(x), self.constant(y))

    def subtract(self, x: Any, y: Any) -> Any:
        """X - y."""
        return self.builder.fsub(self.constant(x), self.constant(y))

    def multiply(self, x: Any, y: Any) -> Any:
        """X y."""
        return self.builder.fmul(self.constant(x), self.constant(y))

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """X y + z, rounded once where the processor can."""
        return self._call("llvm.fmuladd", x, y, z)

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + exp(-x)), to about 1e-7."""
        return self.builder.fdiv(self.constant(1), self.add(1, self._exp(self.multiply(x, -1))))

    def tanh(self, x: Any) -> Any:
        """2 sigmoid(2 x) - 1, to about 1e-7."""
        return self.multiply_add(2, self.sigmoid(self.multiply(x, 2)), -1)

    def _exp(self, x: Any) -> Any:
        """2^n exp(r), where x = n ln 2 + r; exp(r) by its Taylor series, whose ninth term is below rounding."""
        x = self._limit(x, 80.0)
        n = self._call("llvm.rint", self.multiply(x, 1.4426950408889634))
        # ln 2 in two parts, of which n times the first is exact
        r = self.multiply_add(n, -0.693359375, x)
        r = self.multiply_add(n, 2.12194440e-4, r)
        # in pairs, which do not wait for each other (Estrin's scheme)
        pairs = [self.multiply_add(r, 1 / factorial(k + 1), 1 / factorial(k)) for k in (0, 2, 4, 6)]
        square = self.multiply(r, r)
        low, high = (self.multiply_add(square, pairs[k + 1], pairs[k]) for k in (0, 2))
        series = self.multiply_add(self.multiply(square, square), high, low)
        exponent = self.builder.add(self.builder.fptosi(n, INTS), ir.Constant(INTS, [127] * WIDTH))
        power = self.builder.bitcast(self.builder.shl(exponent, ir.Constant(INTS, [23] * WIDTH)), VECTOR)
        return self.multiply(series, power)

    def _limit(self, x: Any, bound: float) -> Any:
        """X within +-bound; not a number stays what it is."""
        high, low = self.constant(bound), self.constant(-bound)
        x = self.builder.select(self.builder.fcmp_ordered(">", x, high), high, x)
        return self.builder.select(self.builder.fcmp_ordered("<", x, low), low, x)

    def _call(self, name: str, *arguments: Any) -> Any:
        kind = ir.FunctionType(VECTOR, [VECTOR] * len(arguments))
        function = self.builder.module.declare_intrinsic(f"{name}.v{WIDTH}f32", (), kind)
        return self.builder.call(function, [self.constant(argument) for argument in arguments])


def vector_function(arrays: int, integers: int) -> Callable[[Callable[..., None]], Any]:
    """Makes a function that compiled code can call of one that writes its instructions.

    Args:
        arrays: the compiled function first takes so many flat float32 arrays; `write` gets pointers to their elements.
        integers: then so many integers, such as offsets.

    Returns:
        A decorator of `write(code, *pointers, *integers)`, a function that returns nothing.
    """

    def decorate(write: Callable[..., None]) -> Any:
        names = [f"x{number}" for number in range(arrays + integers)]

        def typed(_: Any, *given: Any) -> Any:
            if not all(
                isinstance(array, types.Array) and array.dtype == types.float32 and array.layout == "C"
                for array in given[:arrays]
            ):
                return None
            signature = types.void(*given[:arrays], *[types.intp] * integers)

            def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
                kinds = signature.args[:arrays]
                pointers = [
                    context.make_array(kind)(context, builder, value).data
                    for kind, value in zip(kinds, values[:arrays], strict=True)
                ]
                write(Code(builder), *pointers, *values[arrays:])
                return context.get_dummy_value()

            return signature, codegen

        # numba looks at the number of the arguments by name
        space: dict[str, Any] = {"typed": typed}
        exec(f"def {write.__name__}(context, {', '.join(names)}): return typed(context, {', '.join(names)})", space)
        return intrinsic(space[write.__name__])

    return decorate


def for_range(code: Code, count: Any) -> Any:
    """`cgutils.for_range`: a context whose `index` counts from 0."""
    return cgutils.for_range(code.builder, count)


def accumulator(code: Code, vector: Any) -> Any:
    """A variable that lives in a register, with its first value."""
    place = cgutils.alloca_once(code.builder, VECTOR)
    code.builder.store(vector, place, align=4 * WIDTH)
    return place
