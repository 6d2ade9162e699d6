"""Vectors of 16 floats for numba, and two operations that stay in registers: a product and a transposition.

numba compiles loops over arrays, but it keeps the sums of a product in memory, and also the values that one step of a
recurrence passes to the next. Here a variable of a kernel holds 16 floats. LLVM puts the variable into one register of
AVX-512, two of AVX2, or four of NEON.

numba's cache checks only the file of the compiled kernel, not this file. After a change here, touch `kernels.py`.
"""

# numba's extension interface is untyped.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from engine.alignment.definition import QUANTA
from engine.values import DIMENSION

LANES = 16
"""Floats in a vector."""
WORDS = DIMENSION // 4
"""Number of 32-bit words in an embedding of bytes."""
ROWS, POSITIONS = 4, 2
"""Query rows and positions per `product`: 8 vectors of sums keep the multipliers busy and fit AVX2's 16 registers."""

_FLOAT, _WORD, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WORD, LANES)
_KNOWN_ALIGNMENT = 4
"""Guaranteed alignment of vectors in bytes. An alignment of 64 makes loads fast, but is not required."""
_HALF_TO_SINGLE = 2.0**112
"""Factor that corrects the exponent bias from 15 (float16) to 127 (float32)."""
_ROUNDER = 1.5 * 2.0**23
"""A float32 whose last bit has the value 1, so that adding it rounds to a whole number."""


class Lanes(types.Type):
    """The numba type of a variable that holds 16 floats."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


_lanes = Lanes()


@intrinsic
def load(typing_context, array, at):
    """Elements at, at + 1, ..., at + 15 of a float32 array."""

    def make(context, builder, signature, arguments):
        return _load(builder, _data(context, builder, signature, arguments, 0), arguments[1])

    return _lanes(array, types.intp), make


@intrinsic
def store(typing_context, array, at, vector):
    """Writes the vector to elements at, at + 1, ..., at + 15 of a float32 array."""

    def make(context, builder, signature, arguments):
        _store(builder, _data(context, builder, signature, arguments, 0), arguments[1], arguments[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), make


@intrinsic
def splat(typing_context, number):
    """A vector with the float32 `number` in all lanes."""
    return _lanes(types.float32), lambda context, builder, signature, arguments: _splat(builder, arguments[0])


@intrinsic
def plus(typing_context, a, b):
    """The sum a + b, lane by lane."""
    return _lanes(_lanes, _lanes), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def minimum(typing_context, a, b):
    """The smaller of a and b, lane by lane; b where they are equal."""

    def make(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered("<", *arguments), *arguments)

    return _lanes(_lanes, _lanes), make


@intrinsic
def where_less(typing_context, a, b, then, other):
    """The value `then` where a < b, and `other` elsewhere, lane by lane."""

    def make(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered("<", *arguments[:2]), *arguments[2:])

    return _lanes(_lanes, _lanes, _lanes, _lanes), make


@intrinsic
def product(typing_context, rows, row, columns, base, position, out, place, stride):
    """Writes base + rows . columns to `out`, for ROWS rows and POSITIONS positions.

    rows: float32 (n, 32); or int32 (n, 9), 32 signed bytes of a row and the start of its sums.
    columns: output of `pack`, float32; or int32 if `rows` is.
    base: float32, one vector per position.
    out: float32; receives the vectors of row `row` at element `place`, and those of each next row `stride` further on.
    """

    def make(context, builder, signature, arguments):
        rows, columns, base, out = (_data(context, builder, signature, arguments, n) for n in (0, 2, 3, 5))
        _, row, _, _, position, _, place, stride = arguments
        quantised = signature.args[2].dtype == types.int32
        width, terms, kind = (WORDS + 1, WORDS, _WORDS) if quantised else (DIMENSION, DIMENSION, _FLOATS)
        row, column = builder.mul(row, _INDEX(width)), builder.mul(position, _INDEX(terms * LANES))

        def factor(r, term):
            return _splat(builder, builder.load(builder.gep(rows, [builder.add(row, _INDEX(r * width + term))])))

        def add_product(x, y, total):
            if quantised:
                return _call(builder, "llvm.x86.avx512.vpdpbusd.512", total, y, x)
            return _call(builder, f"llvm.fmuladd.v{LANES}f32", x, y, total)

        bases = [_load(builder, base, builder.mul(position, _INDEX(LANES)), p * LANES) for p in range(POSITIONS)]
        sums = [[factor(r, WORDS)] * POSITIONS if quantised else bases for r in range(ROWS)]
        for term in range(terms):
            y = [_load(builder, columns, column, (p * terms + term) * LANES, kind) for p in range(POSITIONS)]
            for r in range(ROWS):
                x = factor(r, term)
                sums[r] = [add_product(x, y[p], sums[r][p]) for p in range(POSITIONS)]
        for r in range(ROWS):
            start = builder.add(place, builder.mul(stride, _INDEX(r)))
            for p in range(POSITIONS):
                total = sums[r][p]
                if quantised:
                    total = builder.sitofp(total, _FLOATS)
                    unit = _each(_FLOATS, 1 / QUANTA**2)
                    total = _call(builder, f"llvm.fmuladd.v{LANES}f32", total, unit, bases[p])
                _store(builder, out, start, total, p * LANES)
        return context.get_dummy_value()

    index = types.intp
    return types.void(rows, index, columns, base, index, out, index, index), make


@intrinsic
def pack(typing_context, words, starts, halves, out, position):
    """Writes the embeddings of 16 snippets side by side to `out`: a vector of dimension 0, a vector of dimension 1, ...

    words: bits of all embeddings, uint32.
    starts: index in `words` at which the embedding of each snippet starts, int64 (16,).
    halves: whether the embeddings are float16.
    out: float32, receives 32 vectors; or int32, receives 8 vectors of four dimensions each, rounded to unsigned bytes
        that store 0 as 128.
    position: position in `out`.
    """

    def make(context, builder, signature, arguments):
        words, starts, out = (_data(context, builder, signature, arguments, n) for n in (0, 1, 3))
        _, _, halves, _, position = arguments
        quantised = signature.args[3].dtype == types.int32
        place = builder.mul(position, _INDEX((WORDS if quantised else DIMENSION) * LANES))
        begins = [builder.load(builder.gep(starts, [_INDEX(lane)])) for lane in range(LANES)]

        def transposed(start):
            return _transposed(builder, [_load(builder, words, begin, start, _WORDS) for begin in begins])

        def put(values):
            if quantised:
                values = [_quantised(builder, values[d : d + 4]) for d in range(0, DIMENSION, 4)]
            for number, vector in enumerate(values):
                _store(builder, out, place, vector, number * LANES)

        with builder.if_else(builder.trunc(halves, ir.IntType(1))) as (then, otherwise):
            with then:
                put([value for pair in transposed(0) for value in _singles(builder, pair)])
            with otherwise:
                values = [value for start in range(0, DIMENSION, LANES) for value in transposed(start)]
                put([builder.bitcast(value, _FLOATS) for value in values])
        return context.get_dummy_value()

    return types.void(words, starts, types.boolean, out, types.intp), make


def _data(context, builder, signature, arguments, number):
    """The address of the first element of the array that is argument `number`."""
    return context.make_array(signature.args[number])(context, builder, arguments[number]).data


def _address(builder, data, at, offset, kind):
    return builder.bitcast(builder.gep(data, [builder.add(at, _INDEX(offset))]), kind.as_pointer())


def _load(builder, data, at, offset=0, kind=_FLOATS):
    return builder.load(_address(builder, data, at, offset, kind), align=_KNOWN_ALIGNMENT)


def _store(builder, data, at, vector, offset=0):
    builder.store(vector, _address(builder, data, at, offset, vector.type), align=_KNOWN_ALIGNMENT)


def _call(builder, name, *arguments):
    kind = ir.FunctionType(arguments[0].type, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _each(kind, number):
    return ir.Constant(kind, [number] * LANES)


def _shuffled(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(_WORDS, [_WORD(lane) for lane in lanes]))


def _splat(builder, number):
    undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    return _shuffled(builder, builder.insert_element(undefined, number, _WORD(0)), undefined, [0] * LANES)


def _transposed(builder, vectors):
    """The transpose of 16 vectors, by swapping the off-diagonal squares of side 8, then 4, 2 and 1."""
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
    """The lower and the upper float16 of each word, as float32. Not every CPU converts float16, so integers do it."""

    def single(word):
        # The shift leaves three copies of the sign before the exponent, and the mask clears them.
        bits = builder.and_(builder.ashr(word, _each(_WORDS, 3)), _each(_WORDS, 0x8FFF_E000))
        return builder.fmul(builder.bitcast(bits, _FLOATS), _each(_FLOATS, _HALF_TO_SINGLE))

    return single(builder.shl(pairs, _each(_WORDS, 16))), single(pairs)


def _quantised(builder, values):
    """Four vectors of floats as one vector of bytes, rounded like `np.rint`; the first one becomes the lowest bytes."""
    packed = None
    for number, value in enumerate(values):
        # Adding _ROUNDER rounds the value to a whole number, which the lowest bits of the sum hold.
        shifted = _call(builder, f"llvm.fmuladd.v{LANES}f32", value, _each(_FLOATS, QUANTA), _each(_FLOATS, _ROUNDER))
        for sign, bound in (("<", _ROUNDER + QUANTA - 1), (">", _ROUNDER - QUANTA + 1)):
            limit = _each(_FLOATS, bound)
            shifted = builder.select(builder.fcmp_ordered(sign, shifted, limit), shifted, limit)
        bits = builder.shl(builder.bitcast(shifted, _WORDS), _each(_WORDS, 8 * number))
        below = _each(_WORDS, (1 << 8 * number) - 1)
        packed = (
            bits
            if packed is None
            else builder.or_(builder.and_(packed, below), builder.and_(bits, builder.not_(below)))
        )
    return builder.xor(packed, _each(_WORDS, 0x8080_8080))
