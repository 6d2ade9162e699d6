// What engine/alignment/gpu.py compiles; engine/alignment/definition.py says what it computes.
//
// `fused` is compiled for each number of WORDS, with
//   WORDS  words of a row of D that a thread holds, 3 or more; a word is a cell or, with HALVES, two
//   WIDE   1: wide steps, 0: slope steps
//   BYTES  1: embeddings are int8, rounded to multiples of 1/128; 0: float16
//   JUMPS  0: the penalty is infinite
//   THREE  1: minima of three by whole numbers, in one instruction from compute capability 9.0 on; 0: by floats
//   HALVES 1: totals are multiples of 1/4096 of 16 bits; needs jumps, and that a document may start and end anywhere
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
constexpr int PARTS = 1;  // of each eighth of a query row
#else
typedef uint4 Eighth;
typedef unsigned short Value;
typedef float Sum;
constexpr int PARTS = 2;  // the upper half of the digits, then the lower one
#endif

#ifdef WORDS
// A block aligns a document, each thread WORDS neighbouring snippets of it, with query `blockIdx.y`. The document's
// embeddings stay in registers as operands of the tensor cores, and so do the last row of D and its charges. Eight
// query rows at a time are multiplied; the products come out with a lane holding two rows of some cells, and go through
// shared memory to come back with a lane holding every row of its own cells. Within a row cells do not wait for each
// other; a row waits for the least of the row above (jumps), and for its neighbours' last three cells.
//
// With HALVES a word holds a snippet of the first half of the block's places (its lower 16 bits) and the one as far into
// the second half. Words are added and subtracted as whole numbers, upper 65536 + lower, where a part may be negative on
// the way: no part of what is stored is, nor is it above 65535. For that, row i is less the least of row i - 1, which is
// taken off its costs. With p the penalty and c the largest cost, all in 1/4096: a total is then at most p + c, for a
// jump comes from that least. A snippet past the end costs `beyond`, more than p + c, so it never is a row's least, and
// its far charge, the largest number there is, is at most 4 p + 3 c. What stands for infinity, being no better than a
// jump, is 2 p before the first row and 2 p more than a jump left of the first snippet.

#ifndef HALVES
#define HALVES 0
#endif

constexpr int WARPS = 8;  // of a block, at most
constexpr int REACH = 3;  // cells to the left that a step comes from
constexpr int PLACES = LANES * WORDS;  // of a warp, for a word each
constexpr int PAIRS = ROWS / 2;
constexpr int TILES = (HALVES ? 4 : 2) * WORDS;  // of 16 snippets, of a warp

#if HALVES
typedef unsigned Total;
typedef uint2 Pair;
typedef uint4 Border;
constexpr float SCALE = 4096;
constexpr unsigned BOTH = 0x10001u;  // times a number: in both halves
#if BYTES
constexpr int DIGITS = 2;  // that products, multiples of 2^-14, lose
constexpr Sum START = 1 << (DIGITS - 1);  // so that they are rounded to the nearest
constexpr unsigned OFFSET = 0;
#else
constexpr Sum START = 0;
constexpr float MAGIC = 3072;  // added to a product, it leaves the product's multiples of 1/4096 in the lowest bits
constexpr unsigned OFFSET = 0x45400000u;  // its own bits, which base costs are less
#endif

__device__ __forceinline__ Total least(Total a, Total b) { return __vminu2(a, b); }
__device__ __forceinline__ Total least(Total a, Total b, Total c) { return __vimin3_u16x2(a, b, c); }

__device__ __forceinline__ int key_of(Total total) { return min((int)(total % 0x10000), (int)(total >> 16)); }

// A word of the products of two snippets with the same query row.
__device__ __forceinline__ Total word(Sum lower, Sum upper) {
#if BYTES
    return ((unsigned)(upper >> DIGITS) << 16) + (unsigned)(lower >> DIGITS);
#else
    return ((unsigned)__float_as_int(upper + MAGIC) << 16) + (unsigned)__float_as_int(lower + MAGIC);
#endif
}
#else
typedef float Total;
#if BYTES
typedef int2 Pair;
#else
typedef float2 Pair;
#endif
typedef float4 Border;
constexpr Sum START = 0;

// Totals are never negative (`shift`), so they are in the order of their bits as whole numbers.
__device__ __forceinline__ int key_of(Total total) { return __float_as_int(total); }

__device__ __forceinline__ Total least(Total a, Total b) {
    return THREE ? __int_as_float(min(key_of(a), key_of(b))) : fminf(a, b);
}

__device__ __forceinline__ Total least(Total a, Total b, Total c) { return least(least(a, b), c); }
#endif

constexpr int MOST = 0x7f800000;  // as a key: infinity, and more than 16 bits

struct Row {
    Total total[WORDS];       // D[i-1, j]
    Total charge[WORDS];      // D[i-2, j-1] + C[i-1, j], what step (2, 1) costs before (i, j)
    Total far_charge[WORDS];  // D[i-3, j-1] + C[i-2, j] + C[i-1, j], and step (3, 1)
    Total left[REACH];        // D[i-1, j] of the cells left of this thread's, the nearest first
    Total jump;               // what a jump into row i costs before it
#if HALVES
    unsigned lowest;  // the least of row i - 1, by which row i will be less than it
    unsigned taken;   // by how much row i - 1 is less than D[i-1]
#endif
};

struct Exchange {
    Border border[2][WARPS + 1];  // the last three totals of warp w - 1, the nearest first; left of warp 0 is nothing
    int4 least[2][WARPS / 4];
};

__device__ __forceinline__ Total above(const Row& row, int cell) {
    return cell >= 0 ? row.total[cell] : row.left[-1 - cell];
}

// base: the cost of a snippet whose product is 0.
template <typename Product>
__device__ __forceinline__ Total cost_of(const Row& row, Total base, Product product) {
#if HALVES
    return product + base - row.lowest * BOTH;
#else
    return base + (BYTES ? 1.0f / (128 * 128) : 1) * product;
#endif
}

// common: the least of the ways into the cell but those of its diagonal and its charges.
__device__ __forceinline__ void pass(Row& row, int cell, Total cost, Total common, Total diagonal) {
    Total best = least(common, diagonal, row.charge[cell]);
    if (WIDE) {
        best = least(best, row.far_charge[cell]);
        row.far_charge[cell] = row.charge[cell] + cost;
    }
    row.charge[cell] = diagonal + cost;
    row.total[cell] = cost + best;
}

// The next row of D, from the last cell down, so that what lies left of a cell is still the row above. Neighbouring
// cells share most of what both can come from: cell e can from e - 1, e - 2 and, by wide steps, e - 3.
__device__ __forceinline__ void advance(Row& row, const Total (&cost)[WORDS]) {
#if HALVES
    row.taken += row.lowest;
#endif
#pragma unroll
    for (int e = WORDS - 1; e >= 0; e -= 2) {
        const Total second = above(row, e - 2);
        const Total both = WIDE ? least(second, above(row, e - 3), row.jump) : least(second, row.jump);
        pass(row, e, cost[e], both, above(row, e - 1));
        if (e > 0) pass(row, e - 1, cost[e - 1], least(both, above(row, e - (WIDE ? 4 : 3))), second);
    }
}

// Row 0 of whole alignment: only the document's first snippet starts a path.
__device__ __forceinline__ void keep_start(Row& row, bool starts) {
#if !HALVES
#pragma unroll
    for (int e = 0; e < WORDS; e++) row.total[e] = e == 0 && starts ? row.total[0] : INFINITE;
#endif
}

__device__ __forceinline__ int least_of(int4 keys) { return min(min(keys.x, keys.y), min(keys.z, keys.w)); }

// Gives the row below its neighbours on the left and its jump.
__device__ __forceinline__ void hand_on(Row& row, Exchange& exchange, int parity, Total penalty) {
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, warps = blockDim.x / LANES;
    int key = 0;
    if (JUMPS) {
        Total lowest = row.total[0];
#pragma unroll
        for (int e = WORDS - 1; e > 0; e -= 2) lowest = least(lowest, row.total[e], row.total[e - 1]);
        key = __reduce_min_sync(ALL, key_of(lowest));
    }
    if (warps > 1) {  // two parities, so that a warp may write while another still reads of the row before
        if (lane == LANES - 1) {
            const Total* last = row.total + WORDS - 1;
            exchange.border[parity][warp + 1] = Border{last[0], last[-1], last[-2], 0};
            if (JUMPS) ((int*)exchange.least[parity])[warp] = key;
        }
        __syncthreads();
        if (JUMPS) key = min(least_of(exchange.least[parity][0]), least_of(exchange.least[parity][1]));
    }
#if HALVES
    row.lowest = key;
    row.jump = key * BOTH + penalty;
    // Left of the second half's first snippet is the first half's last one, which the block's last lane has.
    const Border border = exchange.border[parity][warp > 0 ? warp : warps];
#else
    row.jump = JUMPS ? __int_as_float(key) + penalty : INFINITE;
    const Border border = exchange.border[parity][warp];
#endif
    const Total borders[REACH] = {border.x, border.y, border.z};
#pragma unroll
    for (int n = 0; n < REACH; n++) {
        const Total last = row.total[WORDS - 1 - n];
#if HALVES
        const Total neighbour = __shfl_sync(ALL, last, lane + LANES - 1);  // from the last lane to the first
        row.left[n] = lane > 0 || warps == 1 ? neighbour : borders[n];
        if (threadIdx.x == 0) row.left[n] = (row.left[n] << 16) + (row.jump + 2 * penalty) % 0x10000;
#else
        const Total neighbour = __shfl_up_sync(ALL, last, 1);
        row.left[n] = lane > 0 ? neighbour : borders[n];
#endif
    }
}

// Where in shared memory, in pairs of rows, a snippet's products with query rows 2 pair and 2 pair + 1 lie. The rows of
// a warp's 32 lanes, and of the lanes that write, fall into all banks alike.
__device__ __forceinline__ int place(int cell, int lane, int pair) {
    return (cell * LANES + lane) * PAIRS + (pair ^ (lane / 4 % PAIRS));
}

// The products of ROWS query rows, in eighths, with the warp's snippets.
__device__ __forceinline__ void produce(const Eighth (&documents)[TILES][2], const Eighth* queries,
                                        Pair* products) {
    const int lane = threadIdx.x % LANES, group = lane / 4, eighth = lane % 4;
    const Eighth upper = queries[(group * 4 + eighth) * PARTS];
#if !BYTES
    const Eighth lower = queries[(group * 4 + eighth) * PARTS + 1];
#endif
    Pair* const places[2] = {products + place(0, group, eighth), products + place(0, group + 8, eighth)};
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        const Eighth a = documents[tile][0], b = documents[tile][1];
        Sum c[4] = {START, START, START, START};
        // The order of dimensions is the same in both factors, so any will do: a lane's eighth comes in one load.
        multiply(c, a.x, b.x, a.y, b.y, upper.x, upper.y);
#if !BYTES
        multiply(c, a.z, b.z, a.w, b.w, upper.z, upper.w);
        multiply(c, a.x, b.x, a.y, b.y, lower.x, lower.y);
        multiply(c, a.z, b.z, a.w, b.w, lower.z, lower.w);
#endif
#if HALVES
        // The tile's 16 snippets are both halves of the same word of 8 lanes.
        places[tile % 2][(tile / 4 * LANES + tile % 4 / 2 * 16) * PAIRS] = Pair{word(c[0], c[2]), word(c[1], c[3])};
#else
        // The tile's 16 snippets are the same cell of 16 lanes.
        const int offset = (tile / 2 * LANES + tile % 2 * 16) * PAIRS;
        places[0][offset] = Pair{c[0], c[1]};
        places[1][offset] = Pair{c[2], c[3]};
#endif
    }
}

// embeddings: of all documents; document b has snippets offsets[b] to offsets[b + 1], and bias likewise.
// documents: the one of each block.
// queries: embeddings negated and filled up to a multiple of ROWS; query q has rows[q] rows from row first_rows[q] on.
// shift: added to each local cost, so that none is negative, and taken off in the end; every path passes every row once.
// beyond: what a snippet past a document's end costs.
// costs, ends: (queries, count).
extern "C" __global__ void __launch_bounds__(WARPS* LANES)
    fused(const Eighth* embeddings, const float* bias, const long long* offsets, const int* documents,
          const Eighth* queries, const int* first_rows, const int* rows, float bias_weight, float penalty, float shift,
          float beyond, int whole, long long count, float* costs, int* ends) {
    extern __shared__ float2 shared[];
    __shared__ Exchange exchange;
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, warps = blockDim.x / LANES;
    const int document = documents[blockIdx.x], count_rows = rows[blockIdx.y];
    const long long first = offsets[document];
    const int length = (int)(offsets[document + 1] - first);
    const int own = (warp * LANES + lane) * WORDS;  // the thread's first cell
    Pair* const products = (Pair*)shared + warp * PLACES * PAIRS;
    const auto base_cost = [=](int cell) { return cell < length ? 1 + bias_weight * bias[first + cell] + shift : beyond; };
#if HALVES
    const int half = blockDim.x * WORDS;  // the first cell of the second half
    const auto whole_base = [=](int cell) { return (unsigned)(SCALE * base_cost(cell) + 0.5f); };
    const Total step = BOTH * (unsigned)(SCALE * penalty + 0.5f), nothing = 2 * step;
#else
    const Total step = penalty, nothing = INFINITE;
#endif

    Eighth snippets[TILES][2];
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (int n = 0; n < 2; n++) {
#if HALVES
            const int cell = (warp * LANES + tile % 4 * 8 + lane / 4) * WORDS + tile / 4 + n * half;
#else
            const int cell = (warp * LANES + tile % 2 * 16 + n * 8 + lane / 4) * WORDS + tile / 2;
#endif
            snippets[tile][n] = cell < length ? embeddings[(first + cell) * 4 + lane % 4] : Eighth{};
        }
    }
    Total base[WORDS];
    Row row;
#pragma unroll
    for (int e = 0; e < WORDS; e++) {
#if HALVES
        base[e] = (whole_base(own + e + half) << 16) + whole_base(own + e) - OFFSET;
#else
        base[e] = base_cost(own + e);
#endif
        row.total[e] = row.charge[e] = row.far_charge[e] = nothing;
    }
#pragma unroll
    for (int n = 0; n < REACH; n++) row.left[n] = nothing;
    row.jump = 0;  // into row 0, from nowhere
#if HALVES
    row.lowest = row.taken = 0;
#endif
    if (threadIdx.x < 2) {
        exchange.border[threadIdx.x][0] = Border{nothing, nothing, nothing, 0};
        for (int n = 0; n < WARPS; n++) ((int*)exchange.least[threadIdx.x])[n] = MOST;
    }
    __syncthreads();

    queries += (long long)first_rows[blockIdx.y] * 4 * PARTS;
    for (int i = 0; i < count_rows; i += ROWS) {
        produce(snippets, queries + i * 4 * PARTS, products);
        __syncwarp();
#pragma unroll 1
        for (int pair = 0; pair < PAIRS && i + 2 * pair < count_rows; pair++) {
            Total cost[WORDS];
            decltype(Pair::y) second[WORDS];
#pragma unroll
            for (int e = 0; e < WORDS; e++) {
                const Pair product = products[place(e, lane, pair)];
                cost[e] = cost_of(row, base[e], product.x);
                second[e] = product.y;
            }
            advance(row, cost);
            if (whole && i + pair == 0) keep_start(row, own == 0);
            hand_on(row, exchange, 0, step);
            if (i + 2 * pair + 1 < count_rows) {
#pragma unroll
                for (int e = 0; e < WORDS; e++) cost[e] = cost_of(row, base[e], second[e]);
                advance(row, cost);
                hand_on(row, exchange, 1, step);
            }
        }
        __syncwarp();
    }

    // The first of the least, or the last snippet's, in the row that is left.
    int key = MOST, end = 0x7fffffff;
#if HALVES
#pragma unroll
    for (int e = 0; e < 2 * WORDS; e++) {
        const int total = row.total[e % WORDS] >> e / WORDS * 16 & 0xffff;
        if (total < key) {
            key = total;
            end = own + e % WORDS + e / WORDS * half;
        }
    }
#else
#pragma unroll
    for (int e = 0; e < WORDS; e++) {
        if (whole ? own + e == length - 1 : key_of(row.total[e]) < key) {
            key = key_of(row.total[e]);
            end = own + e;
        }
    }
#endif
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
        if (other == 0 || lowests[other] < key || (lowests[other] == key && first_ends[other] < end)) {
            key = lowests[other];
            end = first_ends[other];
        }
    }
    const bool found = key < MOST;
#if HALVES
    const float total = (row.taken + key) / SCALE;
#else
    const float total = __int_as_float(key);
#endif
    costs[blockIdx.y * count + document] = found ? (total - shift * count_rows) / count_rows : INFINITE;
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
