// What engine/alignment/gpu.py compiles; engine/alignment/definition.py says what it computes.
//
// `fused` is compiled for each number of CELLS, with
//   CELLS  cells of a row of D that a thread holds, 3 or more
//   WIDE   1: wide steps, 0: slope steps
//   BYTES  1: embeddings are int8, rounded to multiples of 1/128; 0: float16
//   JUMPS  0: the penalty is infinite
//   THREE  1: minima of three by whole numbers, in one instruction from compute capability 9.0 on; 0: by floats
// `local_costs` and `simple` need none of these but BYTES.
//
// Nothing is included, so that NVRTC needs no folder of headers. EMULATED leaves out what is no C++: a test compiles
// this file for the CPU and brings its own.

#ifndef EMULATED
// c += a b: 16 x 16 by 16 x 8 of float16.
__device__ __forceinline__ void multiply(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                         unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// c += a b: 16 x 32 by 32 x 8 of int8.
__device__ __forceinline__ void multiply(int (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                         unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ float single(unsigned short half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}
#endif

#ifndef BYTES
#define BYTES 0
#endif

#define INFINITE __int_as_float(0x7f800000)
constexpr int DIMENSION = 32;
constexpr int LANES = 32;
constexpr int ROWS = 8;  // query rows whose costs are made together
constexpr unsigned ALL = 0xffffffffu;

#if BYTES
typedef uint2 Eighth;  // 8 dimensions of an embedding
typedef signed char Value;
typedef int Sum;
typedef int2 Pair;
constexpr int PARTS = 1;  // of each eighth of a query row
constexpr float UNIT = 1.0f / (128 * 128);
#else
typedef uint4 Eighth;
typedef unsigned short Value;
typedef float Sum;
typedef float2 Pair;
constexpr int PARTS = 2;  // the upper half of the digits, then the lower one
constexpr float UNIT = 1;
#endif

#ifdef CELLS
// A block aligns a document, each thread CELLS neighbouring snippets of it, with query `blockIdx.y`. The document's
// embeddings stay in registers as operands of the tensor cores, and so do the last row of D and its charges. Eight
// query rows at a time are multiplied; the products come out with a lane holding two rows of some cells, and go through
// shared memory to come back with a lane holding every row of its own cells. Within a row cells do not wait for each
// other; a row waits for the least of the row above (jumps), and for its neighbours' last three cells.

constexpr int WARPS = 8;  // of a block, at most
constexpr int REACH = 3;  // cells to the left that a step comes from
constexpr int SLOTS = LANES * CELLS;
constexpr int PAIRS = ROWS / 2;

// Totals are never negative (`shift`), so they are in the order of their bits as whole numbers.
__device__ __forceinline__ int bits(float total) { return __float_as_int(total); }

__device__ __forceinline__ float least(float a, float b) {
    return THREE ? __int_as_float(min(bits(a), bits(b))) : fminf(a, b);
}

__device__ __forceinline__ float least(float a, float b, float c) { return least(least(a, b), c); }

struct Row {
    float total[CELLS];       // D[i-1, j]
    float charge[CELLS];      // D[i-2, j-1] + C[i-1, j], what step (2, 1) costs before (i, j)
    float far_charge[CELLS];  // D[i-3, j-1] + C[i-2, j] + C[i-1, j], and step (3, 1)
    float left[REACH];        // D[i-1, j] of the cells left of this thread's, the nearest first
    float jump;               // what a jump into row i costs before it
};

struct Exchange {
    float4 border[2][WARPS + 1];  // the last three totals of warp w - 1, the nearest first; left of warp 0 is nothing
    int4 least[2][WARPS / 4];
};

__device__ __forceinline__ float above(const Row& row, int cell) {
    return cell >= 0 ? row.total[cell] : row.left[-1 - cell];
}

// common: the least of the ways into the cell but those of its diagonal and its charges.
__device__ __forceinline__ void pass(Row& row, int cell, float cost, float common, float diagonal) {
    float best = least(common, diagonal, row.charge[cell]);
    if (WIDE) {
        best = least(best, row.far_charge[cell]);
        row.far_charge[cell] = row.charge[cell] + cost;
    }
    row.charge[cell] = diagonal + cost;
    row.total[cell] = cost + best;
}

// The next row of D, from the last cell down, so that what lies left of a cell is still the row above. Neighbouring
// cells share most of what both can come from: cell e can from e - 1, e - 2 and, by wide steps, e - 3.
__device__ __forceinline__ void advance(Row& row, const float (&cost)[CELLS]) {
#pragma unroll
    for (int e = CELLS - 1; e >= 0; e -= 2) {
        const float second = above(row, e - 2);
        const float both = WIDE ? least(second, above(row, e - 3), row.jump) : least(second, row.jump);
        pass(row, e, cost[e], both, above(row, e - 1));
        if (e > 0) pass(row, e - 1, cost[e - 1], least(both, above(row, e - (WIDE ? 4 : 3))), second);
    }
}

// Row 0 of whole alignment: only the document's first snippet starts a path.
__device__ __forceinline__ void keep_start(Row& row, bool starts) {
#pragma unroll
    for (int e = 0; e < CELLS; e++) row.total[e] = e == 0 && starts ? row.total[0] : INFINITE;
}

__device__ __forceinline__ int least_of(int4 keys) { return min(min(keys.x, keys.y), min(keys.z, keys.w)); }

// Gives the row below its neighbours on the left and its jump.
__device__ __forceinline__ void hand_on(Row& row, Exchange& exchange, int parity, float penalty) {
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    int key = 0;
    if (JUMPS) {
        float lowest = row.total[0];
#pragma unroll
        for (int e = CELLS - 1; e > 0; e -= 2) lowest = least(lowest, row.total[e], row.total[e - 1]);
        key = __reduce_min_sync(ALL, bits(lowest));
    }
    if (blockDim.x > LANES) {  // two parities, so that a warp may write while another still reads of the row before
        if (lane == LANES - 1) {
            const float* last = row.total + CELLS - 1;
            exchange.border[parity][warp + 1] = make_float4(last[0], last[-1], last[-2], 0);
            if (JUMPS) ((int*)exchange.least[parity])[warp] = key;
        }
        __syncthreads();
        if (JUMPS) key = min(least_of(exchange.least[parity][0]), least_of(exchange.least[parity][1]));
    }
    const float4 border = exchange.border[parity][warp];
    const float borders[REACH] = {border.x, border.y, border.z};
#pragma unroll
    for (int n = 0; n < REACH; n++) {
        const float neighbour = __shfl_up_sync(ALL, row.total[CELLS - 1 - n], 1);
        row.left[n] = lane > 0 ? neighbour : borders[n];
    }
    row.jump = JUMPS ? __int_as_float(key) + penalty : INFINITE;
}

// Where in shared memory, in pairs of rows, a snippet's products with query rows 2 pair and 2 pair + 1 lie. The rows of
// a warp's 32 lanes, and of the lanes that write, fall into all banks alike.
__device__ __forceinline__ int place(int cell, int lane, int pair) {
    return (cell * LANES + lane) * PAIRS + (pair ^ (lane / 4 % PAIRS));
}

// The products of ROWS query rows, in eighths, with the warp's snippets.
__device__ __forceinline__ void produce(const Eighth (&documents)[2 * CELLS][2], const Eighth* queries,
                                        Pair* products) {
    const int lane = threadIdx.x % LANES, group = lane / 4, eighth = lane % 4;
    const Eighth upper = queries[(group * 4 + eighth) * PARTS];
#if !BYTES
    const Eighth lower = queries[(group * 4 + eighth) * PARTS + 1];
#endif
    Pair* const places[2] = {products + place(0, group, eighth), products + place(0, group + 8, eighth)};
#pragma unroll
    for (int tile = 0; tile < 2 * CELLS; tile++) {
        const Eighth a = documents[tile][0], b = documents[tile][1];
        Sum c[4] = {0, 0, 0, 0};
        // The order of dimensions is the same in both factors, so any will do: a lane's eighth comes in one load.
        multiply(c, a.x, b.x, a.y, b.y, upper.x, upper.y);
#if !BYTES
        multiply(c, a.z, b.z, a.w, b.w, upper.z, upper.w);
        multiply(c, a.x, b.x, a.y, b.y, lower.x, lower.y);
        multiply(c, a.z, b.z, a.w, b.w, lower.z, lower.w);
#endif
        // The tile's 16 snippets are the same cell of 16 lanes.
        const int offset = (tile / 2 * LANES + tile % 2 * 16) * PAIRS;
        places[0][offset] = Pair{c[0], c[1]};
        places[1][offset] = Pair{c[2], c[3]};
    }
}

// embeddings: of all documents; document b has snippets offsets[b] to offsets[b + 1], and bias likewise.
// documents: the one of each block.
// queries: embeddings negated and filled up to a multiple of ROWS; query q has rows[q] rows from row first_rows[q] on.
// shift: added to each local cost, so that none is negative, and taken off in the end; every path passes every row once.
// costs, ends: (queries, count).
extern "C" __global__ void __launch_bounds__(WARPS* LANES)
    fused(const Eighth* embeddings, const float* bias, const long long* offsets, const int* documents,
          const Eighth* queries, const int* first_rows, const int* rows, float bias_weight, float penalty, float shift,
          int whole, long long count, float* costs, int* ends) {
    extern __shared__ float2 shared[];
    __shared__ Exchange exchange;
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, warps = blockDim.x / LANES;
    const int document = documents[blockIdx.x], count_rows = rows[blockIdx.y];
    const long long first = offsets[document];
    const int length = (int)(offsets[document + 1] - first);
    const int own = (warp * LANES + lane) * CELLS;  // the thread's first cell
    Pair* const products = (Pair*)shared + warp * SLOTS * PAIRS;

    Eighth snippets[2 * CELLS][2];
#pragma unroll
    for (int tile = 0; tile < 2 * CELLS; tile++) {
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const int cell = (warp * LANES + tile % 2 * 16 + n * 8 + lane / 4) * CELLS + tile / 2;
            snippets[tile][n] = cell < length ? embeddings[(first + cell) * 4 + lane % 4] : Eighth{};
        }
    }
    float base[CELLS];
    Row row;
#pragma unroll
    for (int e = 0; e < CELLS; e++) {
        base[e] = own + e < length ? 1 + bias_weight * bias[first + own + e] + shift : INFINITE;
        row.total[e] = row.charge[e] = row.far_charge[e] = INFINITE;
    }
#pragma unroll
    for (int n = 0; n < REACH; n++) row.left[n] = INFINITE;
    row.jump = 0;  // into row 0, from nowhere
    if (threadIdx.x < 2) {
        exchange.border[threadIdx.x][0] = make_float4(INFINITE, INFINITE, INFINITE, 0);
        for (int n = 0; n < WARPS; n++) ((int*)exchange.least[threadIdx.x])[n] = bits(INFINITE);
    }
    __syncthreads();

    queries += (long long)first_rows[blockIdx.y] * 4 * PARTS;
    for (int i = 0; i < count_rows; i += ROWS) {
        produce(snippets, queries + i * 4 * PARTS, products);
        __syncwarp();
#pragma unroll 1
        for (int pair = 0; pair < PAIRS && i + 2 * pair < count_rows; pair++) {
            float cost[CELLS], next[CELLS];
#pragma unroll
            for (int e = 0; e < CELLS; e++) {
                const Pair product = products[place(e, lane, pair)];
                cost[e] = base[e] + UNIT * product.x;
                next[e] = base[e] + UNIT * product.y;
            }
            advance(row, cost);
            if (whole && i + pair == 0) keep_start(row, own == 0);
            hand_on(row, exchange, 0, penalty);
            if (i + 2 * pair + 1 < count_rows) {
                advance(row, next);
                hand_on(row, exchange, 1, penalty);
            }
        }
        __syncwarp();
    }

    // The first of the least, or the last snippet's, in the row that is left.
    int key = bits(INFINITE), end = 0x7fffffff;
#pragma unroll
    for (int e = 0; e < CELLS; e++) {
        if (whole ? own + e == length - 1 : bits(row.total[e]) < key) {
            key = bits(row.total[e]);
            end = own + e;
        }
    }
    const int lowest = __reduce_min_sync(ALL, key);
    const int first_end = __reduce_min_sync(ALL, key == lowest ? end : 0x7fffffff);
    __shared__ int lowests[WARPS], first_ends[WARPS];
    if (lane == 0) {
        lowests[warp] = lowest;
        first_ends[warp] = first_end;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int other = 0; other < warps; other++) {
        if (other == 0 || lowests[other] < key) {  // warps come in the order of cells: the first of equals stays
            key = lowests[other];
            end = first_ends[other];
        }
    }
    const bool found = key < bits(INFINITE);
    costs[blockIdx.y * count + document] = found ? (__int_as_float(key) - shift * count_rows) / count_rows : INFINITE;
    ends[blockIdx.y * count + document] = found ? end : -1;
}
#endif

// C of one query against the snippets first to last; costs: (rows, last - first). query: float32 (rows, 32), negated.
extern "C" __global__ void local_costs(const Value* embeddings, const float* bias, long long first, long long last,
                                       const float* query, int rows, float bias_weight, float* costs) {
    const long long width = last - first, column = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float values[DIMENSION];
#pragma unroll
    for (int d = 0; d < DIMENSION; d++) {
        const Value value = embeddings[(first + column) * DIMENSION + d];
#if BYTES
        values[d] = value * (1.0f / 128);
#else
        values[d] = single(value);
#endif
    }
    const float base = 1 + bias_weight * bias[first + column];
    for (int i = 0; i < rows; i++) {
        float sum = 0;
#pragma unroll
        for (int d = 0; d < DIMENSION; d++) sum += query[i * DIMENSION + d] * values[d];
        costs[i * width + column] = base + sum;
    }
}

// A way to a cell: what it costs and how many cells it passes.
struct Way {
    float cost;
    int cells;
};

__device__ __forceinline__ void prefer(Way& best, Way other) {
    if (other.cost < best.cost) best = other;
}

__device__ __forceinline__ Way at(const Way* row, int cell) { return cell >= 0 ? row[cell] : Way{INFINITE, 0}; }

__device__ __forceinline__ Way passed(Way way, float cost) { return Way{way.cost + cost, way.cells + 1}; }

// The first of the least of a row, which every thread of the block learns.
__device__ __forceinline__ int first_of_least(const Way* row, int length, float* leasts, int* places) {
    float least = INFINITE;
    int found = 0x7fffffff;
    for (int j = threadIdx.x; j < length; j += blockDim.x) {
        if (row[j].cost < least) {
            least = row[j].cost;
            found = j;
        }
    }
    leasts[threadIdx.x] = least;
    places[threadIdx.x] = found;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            const unsigned other = threadIdx.x + half;
            const bool before = leasts[other] == leasts[threadIdx.x] && places[other] < places[threadIdx.x];
            if (leasts[other] < leasts[threadIdx.x] || before) {
                leasts[threadIdx.x] = leasts[other];
                places[threadIdx.x] = places[other];
            }
        }
        __syncthreads();
    }
    const int result = places[0];
    __syncthreads();
    return result;
}

// Any steps, any length, by the letter: a block a document, rows of D in memory, costs from `local_costs`. The order of
// ways is that in which ties prefer them. With classic steps a cell waits for its left neighbour, so one thread walks.
// steps: 0 classic, 1 slope, 2 wide. first: the snippet that column 0 of `costs` (rows, width) belongs to.
// memory: 4 ways a column. blockDim.x: a power of two, at most 128.
extern "C" __global__ void simple(const float* costs, long long first, long long width, const long long* offsets,
                                  const int* documents, int rows, float penalty, int steps, int whole, int by_path,
                                  Way* memory, float* found_costs, int* found_ends) {
    __shared__ float leasts[128];
    __shared__ int places[128];
    const int document = documents[blockIdx.x];
    const long long start = offsets[document] - first;
    const int length = (int)(offsets[document + 1] - offsets[document]);
    costs += start;
    Way *row = memory + start, *above = row + width, *charges = above + width, *far_charges = charges + width;
    const Way none = {INFINITE, 0};
    Way jump = none;
    for (int i = 0; i < rows; i++, costs += width) {
        for (int j = threadIdx.x; j < length; j += blockDim.x) {
            Way best = i == 0 && (j == 0 || !whole) ? Way{0, 0} : none;
            if (i == 0) {
                charges[j] = far_charges[j] = none;
            } else {
                const Way diagonal = at(above, j - 1), charge = charges[j], far_charge = far_charges[j];
                prefer(best, diagonal);
                prefer(best, steps == 0 ? above[j] : charge);
                if (steps > 0) prefer(best, at(above, j - 2));
                if (steps > 1) prefer(best, far_charge);
                if (steps > 1) prefer(best, at(above, j - 3));
                far_charges[j] = passed(charge, costs[j]);
                charges[j] = passed(diagonal, costs[j]);
            }
            if (steps > 0) {
                prefer(best, jump);
                best = passed(best, costs[j]);
            }
            row[j] = best;
        }
        __syncthreads();
        if (steps == 0 && threadIdx.x == 0) {
            Way left = none;
            for (int j = 0; j < length; j++) {
                Way best = row[j];
                if (i > 0 || (whole && j > 0)) prefer(best, left);
                prefer(best, jump);
                row[j] = left = passed(best, costs[j]);
            }
        }
        __syncthreads();
        const int least = first_of_least(row, length, leasts, places);
        jump = least < length ? Way{row[least].cost + penalty, row[least].cells} : none;
        Way* const swapped = above;
        above = row;
        row = swapped;
    }
    const int end = whole ? length - 1 : first_of_least(above, length, leasts, places);
    if (threadIdx.x > 0) return;
    const bool found = end < length && above[end].cost < INFINITE;
    found_costs[document] = found ? above[end].cost / (by_path ? above[end].cells : rows) : INFINITE;
    found_ends[document] = found ? end : -1;
}
