// The kernels that engine/alignment/gpu.py compiles. engine/alignment/definition.py defines what they compute.
//
// `fused` is compiled once for each combination of these macros that a launch needs:
//   WORDS  number of words of a row of D in each thread, 3 or more; a word is one cell or, with HALVES, two cells
//   WIDE   1: wide steps; 0: slope steps
//   BYTES  1: embeddings are int8, rounded to multiples of 1/128; 0: embeddings are float16
//   JUMPS  1: the penalty is finite, or RESTS is 1; 0: the penalty is infinite
//   RESTS  1: query rows may be left out, each for `price`; 0: none is left out
//   HALVES 1: totals are 16-bit multiples of 1/4096, which needs BYTES, jumps, no rests, and paths that start and end
//          anywhere; 0: totals are float32
// `local_costs` and `simple` need only BYTES.
//
// The file includes no headers, so that NVRTC needs none. EMULATED leaves out everything that is not C++: a test
// compiles this file for the CPU and defines the missing functions itself (tests/cuda_on_cpu.cpp).

#ifndef EMULATED
// c += a b, for float16 matrices of 16 x 16 and 16 x 8.
__device__ __forceinline__ void multiply(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                         unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// c += a b, for int8 matrices of 16 x 32 and 32 x 8.
__device__ __forceinline__ void multiply(int (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                         unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The float32 with the value of the bits of a float16.
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
constexpr int ROWS = 8;  // query rows whose costs are computed together
constexpr unsigned ALL = 0xffffffffu;

#if BYTES
typedef uint2 Eighth;  // 8 dimensions of an embedding
typedef signed char Value;
typedef int Sum;
constexpr int PARTS = 1;  // parts of each eighth of a query row: all its digits
#else
typedef uint4 Eighth;
typedef unsigned short Value;
typedef float Sum;
constexpr int PARTS = 2;  // parts of each eighth of a query row: the upper digits, then the lower digits
#endif

#ifdef WORDS
// A block aligns one document with query `blockIdx.y`; each thread handles WORDS neighbouring snippets. The document's
// embeddings stay in registers as operands of the tensor cores. The last row of D and its charges also stay there. The
// tensor cores multiply eight query rows at a time. A lane of their result holds two rows of some cells; the products
// go through shared memory, after which a lane holds every row of its own cells. The cells of a row do not wait for
// each other. A row waits for the minimum of the row above (for jumps), and for the last three cells of the thread on
// the left.
//
// With HALVES, the lower 16 bits of a word hold a snippet of the first half of the block's places, and the upper 16
// bits hold the snippet at the same place of the second half. Words are added and subtracted as integers, upper 65536 +
// lower. A part may be negative in an intermediate result, but each part of a stored word is in 0..65535. To keep it
// there, the minimum of row i - 1 is subtracted from the costs of row i. Let p be the penalty and c the largest cost,
// in units of 1/4096. Then a total is at most p + c, because a jump starts at that minimum. A snippet past the
// document's end costs `beyond`, which is more than p + c, so this snippet is never the minimum of a row. Its far
// charge is the largest number, at most 4 p + 3 c. Infinity is replaced by a number that never beats a jump: 2 p before
// the first row, and 2 p more than a jump left of the first snippet.

#ifndef HALVES
#define HALVES 0
#endif
#ifndef RESTS
#define RESTS 0
#endif

constexpr int WARPS = 8;  // maximum number of warps in a block
constexpr int REACH = 3;  // a step comes from at most this many cells to the left
constexpr int PLACES = LANES * WORDS;  // words in a warp
constexpr int PAIRS = ROWS / 2;
constexpr int TILES = (HALVES ? 4 : 2) * WORDS;  // tiles of 16 snippets in a warp

#if HALVES
typedef unsigned Total;
typedef uint2 Pair;
typedef uint4 Border;
constexpr float SCALE = 4096;
constexpr unsigned BOTH = 0x10001u;  // n * BOTH has n in both halves
constexpr int DIGITS = 2;  // bits that products, multiples of 2^-14, lose to become multiples of 1/4096
constexpr Sum START = 1 << (DIGITS - 1);  // makes the shift round to the nearest multiple

__device__ __forceinline__ Total minimum(Total a, Total b) { return __vminu2(a, b); }
__device__ __forceinline__ Total minimum(Total a, Total b, Total c) { return __vimin3_u16x2(a, b, c); }

__device__ __forceinline__ int key_of(Total total) { return min((int)(total % 0x10000), (int)(total >> 16)); }

// The word that holds the products of two snippets with the same query row.
__device__ __forceinline__ Total word(Sum lower, Sum upper) {
    return ((unsigned)(upper >> DIGITS) << 16) + (unsigned)(lower >> DIGITS);
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

// Totals are never negative (see `shift`), so their bits, read as integers, have the same order. From compute capability
// 9.0 on, one instruction finds the minimum of three integers.
__device__ __forceinline__ int key_of(Total total) { return __float_as_int(total); }

__device__ __forceinline__ Total minimum(Total a, Total b) {
    return __int_as_float(min(key_of(a), key_of(b)));
}

__device__ __forceinline__ Total minimum(Total a, Total b, Total c) { return minimum(minimum(a, b), c); }
#endif

constexpr int MAX_KEY = 0x7f800000;  // the key of infinity, above every 16-bit key

struct Row {
    Total total[WORDS];       // D[i-1, j]
    Total charge[WORDS];      // D[i-2, j-1] + C[i-1, j], the cost of step (2, 1) before (i, j)
    Total far_charge[WORDS];  // D[i-3, j-1] + C[i-2, j] + C[i-1, j], the cost of step (3, 1) before (i, j)
    Total left[REACH];        // D[i-1, j] of the cells left of this thread's cells, the nearest first
    Total jump;               // cost of a jump, or of the start after rows that are left out, before it enters row i
#if RESTS
    Total rest;  // R[i-1]: cost of the cheapest alignment of the rows before row i, of which the last may be left out
    Total lead;  // cost of leaving out all rows before row i
    int end;     // the thread's first cell at which the path of `rest` ends; MAX_END if it has none
#endif
#if HALVES
    unsigned lowest;  // minimum of row i - 1, which the costs of row i subtract
    unsigned taken;   // sum of all minima subtracted up to row i - 1: D[i-1] is the stored total plus this
#endif
};

constexpr int MAX_END = 0x7fffffff;  // above the number of every cell

struct Exchange {
    Border border[2][WARPS + 1];  // [w]: last three totals of warp w - 1, the nearest first
    int4 minima[2][WARPS / 4];       // keys of the minima of all warps
};

__device__ __forceinline__ Total above(const Row& row, int cell) {
    return cell >= 0 ? row.total[cell] : row.left[-1 - cell];
}

// The cost of a cell. base: the cost of a snippet whose product is 0.
template <typename Product>
__device__ __forceinline__ Total cost_of(const Row& row, Total base, Product product) {
#if HALVES
    return product + base - row.lowest * BOTH;
#else
    return base + (BYTES ? 1.0f / (128 * 128) : 1) * product;
#endif
}

// Updates one cell. common: the minimum of all ways into the cell except the diagonal and the charges.
__device__ __forceinline__ void pass(Row& row, int cell, Total cost, Total common, Total diagonal) {
    Total best = minimum(common, diagonal, row.charge[cell]);
    if (WIDE) {
        best = minimum(best, row.far_charge[cell]);
        row.far_charge[cell] = row.charge[cell] + cost;
    }
    row.charge[cell] = diagonal + cost;
    row.total[cell] = cost + best;
}

// Computes the next row of D. It starts at the last cell, so that the cells on the left still hold the row above. Cell
// e is reached from e - 1, e - 2 and, by wide steps, e - 3, so neighbouring cells share most of their minima.
__device__ __forceinline__ void advance(Row& row, const Total (&cost)[WORDS]) {
#if HALVES
    row.taken += row.lowest;
#endif
#pragma unroll
    for (int e = WORDS - 1; e >= 0; e -= 2) {
        const Total second = above(row, e - 2);
        const Total both = WIDE ? minimum(second, above(row, e - 3), row.jump) : minimum(second, row.jump);
        pass(row, e, cost[e], both, above(row, e - 1));
        if (e > 0) pass(row, e - 1, cost[e - 1], minimum(both, above(row, e - (WIDE ? 4 : 3))), second);
    }
}

// Sets row 0 for whole alignment, where a path starts only at the document's first snippet.
__device__ __forceinline__ void keep_start(Row& row, bool starts) {
#if !HALVES
#pragma unroll
    for (int e = 0; e < WORDS; e++) row.total[e] = e == 0 && starts ? row.total[0] : INFINITE;
#endif
}

__device__ __forceinline__ int minimum_of(int4 keys) { return min(min(keys.x, keys.y), min(keys.z, keys.w)); }

#if RESTS
// Sets R and what depends on it. key: the minimum of the row. own: first cell of the thread.
__device__ __forceinline__ void rest(Row& row, int key, Total penalty, Total price, int own) {
    const Total rested = row.rest + price, lowest = __int_as_float(key);
    row.lead += price;
    row.rest = rested;
    if (!(rested < lowest)) {
        row.rest = lowest;
        row.end = MAX_END;
#pragma unroll
        for (int e = WORDS - 1; e >= 0; e--) {
            if (key_of(row.total[e]) == key) row.end = own + e;
        }
    }
    row.jump = minimum(row.rest + penalty, row.lead);
}
#endif

// Sets what the row below needs from other threads: the totals left of this thread's cells, and the cost of a jump.
// own: first cell of the thread.
__device__ __forceinline__ void hand_on(Row& row, Exchange& exchange, int parity, Total penalty, Total price, int own) {
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, warps = blockDim.x / LANES;
    int key = 0;
    if (JUMPS) {
        Total lowest = row.total[0];
#pragma unroll
        for (int e = WORDS - 1; e > 0; e -= 2) lowest = minimum(lowest, row.total[e], row.total[e - 1]);
        key = __reduce_min_sync(ALL, key_of(lowest));
    }
    if (warps > 1) {  // two parities: one warp may write while another still reads the previous row
        if (lane == LANES - 1) {
            const Total* last = row.total + WORDS - 1;
            exchange.border[parity][warp + 1] = Border{last[0], last[-1], last[-2], 0};
            if (JUMPS) ((int*)exchange.minima[parity])[warp] = key;
        }
        __syncthreads();
        if (JUMPS) key = min(minimum_of(exchange.minima[parity][0]), minimum_of(exchange.minima[parity][1]));
    }
#if HALVES
    row.lowest = key;
    row.jump = key * BOTH + penalty;
    // The snippet left of the second half's first snippet is the last one of the first half, in the block's last lane.
    const Border border = exchange.border[parity][warp > 0 ? warp : warps];
#else
#if RESTS
    rest(row, key, penalty, price, own);
#else
    row.jump = JUMPS ? __int_as_float(key) + penalty : INFINITE;
#endif
    const Border border = exchange.border[parity][warp];
#endif
    const Total borders[REACH] = {border.x, border.y, border.z};
#pragma unroll
    for (int n = 0; n < REACH; n++) {
        const Total last = row.total[WORDS - 1 - n];
#if HALVES
        const Total neighbour = __shfl_sync(ALL, last, lane + LANES - 1);  // lane 0 reads the last lane
        row.left[n] = lane > 0 || warps == 1 ? neighbour : borders[n];
        if (threadIdx.x == 0) row.left[n] = (row.left[n] << 16) + (row.jump + 2 * penalty) % 0x10000;
#else
        const Total neighbour = __shfl_up_sync(ALL, last, 1);
        row.left[n] = lane > 0 ? neighbour : borders[n];
#endif
    }
}

// Index in shared memory of a snippet's products with query rows 2 pair and 2 pair + 1. The XOR spreads the accesses of
// a warp evenly over all banks, for reading lanes and for writing lanes.
__device__ __forceinline__ int place(int cell, int lane, int pair) {
    return (cell * LANES + lane) * PAIRS + (pair ^ (lane / 4 % PAIRS));
}

// Writes the products of ROWS query rows with the warp's snippets. A lane holds an eighth of a row's dimensions.
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
        // Both factors order the dimensions alike, so any order is right. In this order a lane reads its eighth in one
        // load.
        multiply(c, a.x, b.x, a.y, b.y, upper.x, upper.y);
#if !BYTES
        multiply(c, a.z, b.z, a.w, b.w, upper.z, upper.w);
        multiply(c, a.x, b.x, a.y, b.y, lower.x, lower.y);
        multiply(c, a.z, b.z, a.w, b.w, lower.z, lower.w);
#endif
#if HALVES
        // The 16 snippets of the tile are both halves of the same word in 8 lanes.
        places[tile % 2][(tile / 4 * LANES + tile % 4 / 2 * 16) * PAIRS] = Pair{word(c[0], c[2]), word(c[1], c[3])};
#else
        // The 16 snippets of the tile are the same cell in 16 lanes.
        const int offset = (tile / 2 * LANES + tile % 2 * 16) * PAIRS;
        places[0][offset] = Pair{c[0], c[1]};
        places[1][offset] = Pair{c[2], c[3]};
#endif
    }
}

// Aligns every query with the documents of one launch.
// embeddings, bias: snippets of all documents; document b has snippets offsets[b] to offsets[b + 1].
// documents: the document of each block.
// queries: negated embeddings, padded to a multiple of ROWS; query q has rows[q] rows from row first_rows[q] on.
// shift: added to each local cost, so that no cost is negative, and subtracted at the end, once per query row.
// beyond: the cost of a snippet past a document's end.
// rest_price: cost of a query row that is left out.
// costs, ends: results, (queries, count).
extern "C" __global__ void __launch_bounds__(WARPS* LANES)
    fused(const Eighth* embeddings, const float* bias, const long long* offsets, const int* documents,
          const Eighth* queries, const int* first_rows, const int* rows, float bias_weight, float penalty, float shift,
          float beyond, float rest_price, int whole, long long count, float* costs, int* ends) {
    extern __shared__ float2 shared[];
    __shared__ Exchange exchange;
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, warps = blockDim.x / LANES;
    const int document = documents[blockIdx.x], count_rows = rows[blockIdx.y];
    const long long first = offsets[document];
    const int length = (int)(offsets[document + 1] - first);
    const int own = (warp * LANES + lane) * WORDS;  // first cell of the thread
    Pair* const products = (Pair*)shared + warp * PLACES * PAIRS;
    const auto base_cost = [=](int cell) { return cell < length ? 1 + bias_weight * bias[first + cell] + shift : beyond; };
#if HALVES
    const int half = blockDim.x * WORDS;  // first cell of the second half
    const auto whole_base = [=](int cell) { return (unsigned)(SCALE * base_cost(cell) + 0.5f); };
    const Total step = BOTH * (unsigned)(SCALE * penalty + 0.5f), nothing = 2 * step;
#else
    const Total step = penalty, nothing = INFINITE;
#endif
#if RESTS
    const Total price = rest_price + shift;
#else
    const Total price = 0;
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
        base[e] = (whole_base(own + e + half) << 16) + whole_base(own + e);
#else
        base[e] = base_cost(own + e);
#endif
        row.total[e] = row.charge[e] = row.far_charge[e] = nothing;
    }
#pragma unroll
    for (int n = 0; n < REACH; n++) row.left[n] = nothing;
    row.jump = 0;  // paths start in row 0 free of charge
#if RESTS
    row.rest = INFINITE;
    row.lead = 0;
    row.end = MAX_END;
#endif
#if HALVES
    row.lowest = row.taken = 0;
#endif
    if (threadIdx.x < 2) {
        exchange.border[threadIdx.x][0] = Border{nothing, nothing, nothing, 0};
        for (int n = 0; n < WARPS; n++) ((int*)exchange.minima[threadIdx.x])[n] = MAX_KEY;
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
            hand_on(row, exchange, 0, step, price, own);
            if (i + 2 * pair + 1 < count_rows) {
#pragma unroll
                for (int e = 0; e < WORDS; e++) cost[e] = cost_of(row, base[e], second[e]);
                advance(row, cost);
                hand_on(row, exchange, 1, step, price, own);
            }
        }
        __syncwarp();
    }

    // The end of the path: the first minimum of the last row, or the last snippet for whole alignment.
    int key = MAX_KEY, end = MAX_END;
#if RESTS
    key = key_of(row.rest);
    end = row.end;
#elif HALVES
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
    const int first_end = __reduce_min_sync(ALL, key == lowest ? end : MAX_END);
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
    const bool found = key < MAX_KEY;
#if HALVES
    const float total = (row.taken + key) / SCALE;
#else
    const float total = __int_as_float(key);
#endif
    costs[blockIdx.y * count + document] = found ? (total - shift * count_rows) / count_rows : INFINITE;
    ends[blockIdx.y * count + document] = found ? end : -1;
}
#endif

// Writes C of one query against some documents, which lie side by side, (rows, width). Blocks (x, 0), (x, 1), ... write
// the columns of document `documents[x]`, from `columns[x]` on. query: float32 (rows, 32), negated.
extern "C" __global__ void local_costs(const Value* embeddings, const float* bias, const long long* offsets,
                                       const int* documents, const long long* columns, long long width, int rows,
                                       const float* query, float bias_weight, float* costs) {
    const int document = documents[blockIdx.x];
    const long long first = offsets[document], snippet = first + (long long)blockIdx.y * blockDim.x + threadIdx.x;
    if (snippet >= offsets[document + 1]) return;
    costs += columns[blockIdx.x] + snippet - first;
    float values[DIMENSION];
#pragma unroll
    for (int d = 0; d < DIMENSION; d++) {
        const Value value = embeddings[snippet * DIMENSION + d];
#if BYTES
        values[d] = value * (1.0f / 128);
#else
        values[d] = single(value);
#endif
    }
    const float base = 1 + bias_weight * bias[snippet];
    for (int i = 0; i < rows; i++) {
        float sum = 0;
#pragma unroll
        for (int d = 0; d < DIMENSION; d++) sum += query[i * DIMENSION + d] * values[d];
        costs[i * width] = base + sum;
    }
}

// A way to a cell: its cost, and the number of cells it passes.
struct Way {
    float cost;
    int cells;
};

__device__ __forceinline__ void prefer(Way& best, Way other) {
    if (other.cost < best.cost) best = other;
}

__device__ __forceinline__ Way at(const Way* row, int cell) { return cell >= 0 ? row[cell] : Way{INFINITE, 0}; }

__device__ __forceinline__ Way passed(Way way, float cost) { return Way{way.cost + cost, way.cells + 1}; }

// The index of the first minimum of a row, returned to every thread of the block.
__device__ __forceinline__ int first_minimum(const Way* row, int length, float* minima, int* places) {
    float minimum = INFINITE;
    int found = 0x7fffffff;
    for (int j = threadIdx.x; j < length; j += blockDim.x) {
        if (row[j].cost < minimum) {
            minimum = row[j].cost;
            found = j;
        }
    }
    minima[threadIdx.x] = minimum;
    places[threadIdx.x] = found;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            const unsigned other = threadIdx.x + half;
            const bool before = minima[other] == minima[threadIdx.x] && places[other] < places[threadIdx.x];
            if (minima[other] < minima[threadIdx.x] || before) {
                minima[threadIdx.x] = minima[other];
                places[threadIdx.x] = places[other];
            }
        }
        __syncthreads();
    }
    const int result = places[0];
    __syncthreads();
    return result;
}

// Aligns one document per block, with any steps and any length. Rows of D lie in memory, and `local_costs` has computed
// the costs. Ways are compared in the order in which ties prefer them. With classic steps a cell waits for its left
// neighbour, so a single thread computes the rest of the row.
// steps: 0 classic, 1 slope, 2 wide. costs, documents, columns: see `local_costs`.
// rest_price: cost of a query row that is left out. memory: 4 ways per column. blockDim.x: a power of two, at most 128.
extern "C" __global__ void simple(const float* costs, const long long* offsets, const int* documents,
                                  const long long* columns, long long width, int rows, float penalty, float rest_price,
                                  int steps, int whole, int by_path, Way* memory, float* found_costs,
                                  int* found_ends) {
    __shared__ float minima[128];
    __shared__ int places[128];
    const int document = documents[blockIdx.x];
    const long long start = columns[blockIdx.x];
    const int length = (int)(offsets[document + 1] - offsets[document]);
    costs += start;
    Way *row = memory + start, *above = row + width, *charges = above + width, *far_charges = charges + width;
    const Way none = {INFINITE, 0};
    Way jump = none, rest = none;
    float lead = 0;
    int end = -1;
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
        const int source = first_minimum(row, length, minima, places);
        const Way lowest = source < length ? row[source] : none;
        rest.cost += rest_price;
        lead += rest_price;
        if (!(rest.cost < lowest.cost)) {
            rest = lowest;
            end = source;
        }
        jump = Way{rest.cost + penalty, rest.cells};
        prefer(jump, Way{lead, 0});
        Way* const swapped = above;
        above = row;
        row = swapped;
    }
    if (whole) {
        end = length - 1;
        rest = above[end];
    }
    if (threadIdx.x > 0) return;
    const bool found = rest.cost < INFINITE;
    found_costs[document] = found ? rest.cost / (by_path ? rest.cells : rows) : INFINITE;
    found_ends[document] = found ? end : -1;
}
