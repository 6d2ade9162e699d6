"""Vectors of 16 floats for numba, and two kernels that live in registers: a product and a transposition.

numba compiles loops over arrays, but keeps in memory the sums of a product, and what one step of a recurrence hands to
the next. Here a variable of a kernel can hold 16 floats; LLVM gives it one register of AVX-512, two of AVX2, or four of
NEON.

numba's cache looks at the file of the kernel it compiled, not at this one: after a change here, touch `kernels.py`.
"""

# numba's extension interface is untyped.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from engine.values import DIMENSION

LANES = 16
ROWS, POSITIONS = 4, 2
"""What `product` makes at a time: 8 vectors of sums keep the multipliers busy, and AVX2 has no registers for more."""

_FLOAT, _WORD, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WORD, LANES)
_KNOWN_ALIGNMENT = 4
"""Bytes. That vectors lie at multiples of 64 makes them fast, but is not relied upon."""
_HALF_TO_SINGLE = 2.0**112
"""float16 counts its exponent from 15, float32 from 127."""


class Lanes(types.Type):
    """numba's type of a variable that holds 16 floats."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


_lanes = Lanes()


@intrinsic
def load(typing_context, array, at):
    """The elements at, at + 1, ... at + 15 of a float32 array."""

    def make(context, builder, signature, arguments):
        return _load(builder, _data(context, builder, signature, arguments, 0), arguments[1])

    return _lanes(array, types.intp), make


@intrinsic
def store(typing_context, array, at, vector):
    """Puts the vector where `load` reads it."""

    def make(context, builder, signature, arguments):
        _store(builder, _data(context, builder, signature, arguments, 0), arguments[1], arguments[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), make


@intrinsic
def splat(typing_context, number):
    """The float32 in all lanes."""
    return _lanes(types.float32), lambda context, builder, signature, arguments: _splat(builder, arguments[0])


@intrinsic
def plus(typing_context, a, b):
    """a + b, lane by lane."""
    return _lanes(_lanes, _lanes), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def least(typing_context, a, b):
    """The lesser one, lane by lane; b where they are equal."""

    def make(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered("<", *arguments), *arguments)

    return _lanes(_lanes, _lanes), make


@intrinsic
def where_less(typing_context, a, b, then, other):
    """`then` where a < b, else `other`, lane by lane."""

    def make(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered("<", *arguments[:2]), *arguments[2:])

    return _lanes(_lanes, _lanes, _lanes, _lanes), make


@intrinsic
def product(typing_context, rows, row, columns, base, position, out, place, stride):
    """base + rows . columns of ROWS rows and POSITIONS positions.

    rows: float32 (32 a row); columns: float32 (32 vectors a position); base: float32 (a vector a position).
    out: float32, given the vectors of row `row` from element `place` on, those of the next one `stride` farther on.
    """

    def make(context, builder, signature, arguments):
        rows, columns, base, out = (_data(context, builder, signature, arguments, n) for n in (0, 2, 3, 5))
        _, row, _, _, position, _, place, stride = arguments
        kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
        fused = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
        row, column = builder.mul(row, _INDEX(DIMENSION)), builder.mul(position, _INDEX(DIMENSION * LANES))
        sums = [[_load(builder, base, builder.mul(position, _INDEX(LANES)), p * LANES) for p in range(POSITIONS)]]
        sums *= ROWS
        for d in range(DIMENSION):
            y = [_load(builder, columns, column, (p * DIMENSION + d) * LANES) for p in range(POSITIONS)]
            for r in range(ROWS):
                address = builder.gep(rows, [builder.add(row, _INDEX(r * DIMENSION + d))])
                x = _splat(builder, builder.load(address))
                sums[r] = [builder.call(fused, (x, y[p], sums[r][p])) for p in range(POSITIONS)]
        for r in range(ROWS):
            start = builder.add(place, builder.mul(stride, _INDEX(r)))
            for p in range(POSITIONS):
                _store(builder, out, start, sums[r][p], p * LANES)
        return context.get_dummy_value()

    index = types.intp
    return types.void(rows, index, columns, base, index, out, index, index), make


@intrinsic
def pack(typing_context, words, starts, halves, out, place):
    """The embeddings of 16 snippets side by side: a vector of their values of dimension 0, one of dimension 1, ...

    words: uint32, the bits of all embeddings; starts: int64 (16,) where those of each snippet start in it.
    halves: whether they are float16.
    out: float32, given 32 vectors from element `place` on.
    """

    def make(context, builder, signature, arguments):
        words, starts, out = (_data(context, builder, signature, arguments, n) for n in (0, 1, 3))
        _, _, halves, _, place = arguments
        begins = [builder.load(builder.gep(starts, [_INDEX(lane)])) for lane in range(LANES)]

        def transposed(start):
            return _transposed(builder, [_load(builder, words, begin, start, _WORDS) for begin in begins])

        with builder.if_else(builder.trunc(halves, ir.IntType(1))) as (then, otherwise):
            with then:
                for d, pairs in enumerate(transposed(0)):
                    for half, vector in enumerate(_singles(builder, pairs)):
                        _store(builder, out, place, vector, (2 * d + half) * LANES)
            with otherwise:
                for start in range(0, DIMENSION, LANES):
                    for d, values in enumerate(transposed(start)):
                        _store(builder, out, place, values, (start + d) * LANES)
        return context.get_dummy_value()

    return types.void(words, starts, types.boolean, out, types.intp), make


def _data(context, builder, signature, arguments, number):
    """Address of the first element of the array that is argument `number`."""
    return context.make_array(signature.args[number])(context, builder, arguments[number]).data


def _address(builder, data, at, offset, kind):
    return builder.bitcast(builder.gep(data, [builder.add(at, _INDEX(offset))]), kind.as_pointer())


def _load(builder, data, at, offset=0, kind=_FLOATS):
    return builder.load(_address(builder, data, at, offset, kind), align=_KNOWN_ALIGNMENT)


def _store(builder, data, at, vector, offset=0):
    builder.store(vector, _address(builder, data, at, offset, vector.type), align=_KNOWN_ALIGNMENT)


def _shuffled(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(_WORDS, [_WORD(lane) for lane in lanes]))


def _splat(builder, number):
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    return _shuffled(builder, builder.insert_element(undefined, number, _WORD(0)), undefined, [0] * LANES)


def _transposed(builder, vectors):
    """16 vectors as columns instead of rows: squares off the diagonal swap, of side 8, then 4, 2 and 1."""
    for side in (8, 4, 2, 1):
        swapped = list(vectors)
        for i in range(LANES):
            if not i & side:
                a, b = vectors[i], vectors[i + side]
                swapped[i] = _shuffled(
                    builder, a, b, [lane + (LANES - side) * bool(lane & side) for lane in range(LANES)]
                )
                swapped[i + side] = _shuffled(
                    builder, a, b, [lane + (LANES if lane & side else side) for lane in range(LANES)]
                )
        vectors = swapped
    return vectors


def _singles(builder, pairs):
    """The lower and the upper float16 of each word, as float32; by integers, for not every CPU converts them."""

    def each(number):
        return ir.Constant(_WORDS, [number] * LANES)

    def single(word):
        # Three copies of the sign come between it and the exponent, and are cleared.
        bits = builder.and_(builder.ashr(word, each(3)), each(0x8FFF_E000))
        return builder.fmul(builder.bitcast(bits, _FLOATS), ir.Constant(_FLOATS, [_HALF_TO_SINGLE] * LANES))

    return single(builder.shl(pairs, each(16))), single(pairs)
