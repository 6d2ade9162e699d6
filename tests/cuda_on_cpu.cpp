// Defines CUDA's functions and types for a C++ compiler, so that a test can run engine/alignment/gpu.cu without a GPU.
//
// The threads of a block are fibers of one thread. Each fiber runs until it reaches a barrier. Even blocks run their
// fibers
// in rising order and odd blocks in falling order: if a barrier is missing, one of the two orders usually fails. When a
// warp exchanges values, each lane stores its value, and all lanes read the values after every lane has stored.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#define EMULATED
#define __global__
#define __device__
#define __forceinline__
#define __launch_bounds__(n)
#define __shared__ thread_local  // has static storage, and may be combined with extern

struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct int2 { int x, y; };
struct int4 { int x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct Index { unsigned x, y; };

static int min(int a, int b) { return a < b ? a : b; }

static unsigned __vminu2(unsigned a, unsigned b) {
    const unsigned low = std::min(a & 0xffff, b & 0xffff), high = std::min(a >> 16, b >> 16);
    return high << 16 | low;
}

static unsigned __vimin3_u16x2(unsigned a, unsigned b, unsigned c) { return __vminu2(__vminu2(a, b), c); }

static int __float_as_int(float value) {
    int bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static float single(unsigned short half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const float size = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
    return half >> 15 ? -size : size;
}

struct Half {
    unsigned short bits;
    operator float() const { return single(bits); }
};

constexpr int MAX_THREADS = 256;
static Index threadIdx, blockIdx, blockDim;
thread_local float2 shared[1 << 14];

// A barrier that some threads wait at.
struct Meeting {
    int members = 0, arrived = 0;
    long generation = 0;
};

struct Laid {
    unsigned a[4], b[2];
    int number;
};

static ucontext_t fibers[MAX_THREADS], scheduler;
static bool done[MAX_THREADS];
static Meeting block_meeting, warp_meetings[MAX_THREADS / 32];
static Laid laid[2][MAX_THREADS];

static void meet(Meeting& meeting) {
    const long generation = meeting.generation;
    if (++meeting.arrived == meeting.members) {
        meeting.arrived = 0;
        meeting.generation++;
        return;
    }
    while (meeting.generation == generation) {
        const unsigned self = threadIdx.x;
        swapcontext(&fibers[self], &scheduler);
        threadIdx.x = self;
    }
}

static void __syncthreads() { meet(block_meeting); }
static void __syncwarp() { meet(warp_meetings[threadIdx.x / 32]); }

// Stores the values of this lane; returns the values of all lanes of the warp. No lane reaches the exchange after next
// before all lanes have read the values of this exchange, so two places are enough.
static const Laid* exchange(const Laid& own) {
    Meeting& meeting = warp_meetings[threadIdx.x / 32];
    Laid* const place = laid[meeting.generation % 2] + threadIdx.x / 32 * 32;
    place[threadIdx.x % 32] = own;
    meet(meeting);
    return place;
}

static float __shfl_up_sync(unsigned, float value, int by) {
    const int lane = threadIdx.x % 32;
    const Laid* all = exchange({{}, {}, __float_as_int(value)});
    return __int_as_float(all[lane >= by ? lane - by : lane].number);
}

static unsigned __shfl_sync(unsigned, unsigned value, int from) {
    return exchange({{}, {}, (int)value})[from % 32].number;
}

static int __reduce_min_sync(unsigned, int value) {
    const Laid* all = exchange({{}, {}, value});
    int least = value;
    for (int lane = 0; lane < 32; lane++) least = min(least, all[lane].number);
    return least;
}

// Element k of a word that holds several numbers of type Number.
template <typename Number>
static float element(const unsigned* words, int k) {
    Number numbers[4 / sizeof(Number)];
    memcpy(numbers, words, 4);
    return numbers[k];
}

// The product of tensor cores. Source: PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type" and "for
// mma.m16n8k32".
template <typename Number, typename Sum>
static void multiply_as(Sum (&c)[4], const Laid& own) {
    constexpr int EACH = 4 / sizeof(Number);  // numbers per word
    const Laid* all = exchange(own);
    const int group = threadIdx.x % 32 / 4, place = threadIdx.x % 4;
    for (int n = 0; n < 4; n++) {
        const int row = group + 8 * (n / 2), column = 2 * place + n % 2;
        for (int k = 0; k < 8 * EACH; k++) {
            const int owner = k / EACH % 4, half = k / (4 * EACH);
            const float a = element<Number>(&all[row % 8 * 4 + owner].a[row / 8 + 2 * half], k % EACH);
            const float b = element<Number>(&all[column * 4 + owner].b[half], k % EACH);
            c[n] += a * b;
        }
    }
}

static void multiply(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    multiply_as<Half>(c, {{a0, a1, a2, a3}, {b0, b1}, 0});
}

static void multiply(int (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    multiply_as<signed char>(c, {{a0, a1, a2, a3}, {b0, b1}, 0});
}

static void (*kernel)(void**);
static void** kernel_arguments;

static void run_fiber() {
    const unsigned self = threadIdx.x;
    kernel(kernel_arguments);
    done[self] = true;
    for (Meeting* meeting : {&block_meeting, &warp_meetings[self / 32]}) {
        // Threads at a barrier do not wait for a thread that has returned.
        if (--meeting->members > 0 && meeting->arrived == meeting->members) {
            meeting->arrived = 0;
            meeting->generation++;
        }
    }
    swapcontext(&fibers[self], &scheduler);
}

static void launch(void (*function)(void**), unsigned blocks_x, unsigned blocks_y, unsigned threads, void** arguments) {
    constexpr size_t STACK = 1 << 16;
    static std::vector<char> stacks(STACK * MAX_THREADS);
    kernel = function;
    kernel_arguments = arguments;
    blockDim = {threads, 1};
    for (unsigned block = 0; block < blocks_x * blocks_y; block++) {
        blockIdx = {block % blocks_x, block / blocks_x};
        memset(shared, 0xff, sizeof shared);  // NaN, so that a read of memory that nothing wrote changes the results
        block_meeting = {(int)threads, 0, 0};
        for (unsigned warp = 0; warp < (threads + 31) / 32; warp++) warp_meetings[warp] = {32, 0, 0};
        for (unsigned n = 0; n < threads; n++) {
            done[n] = false;
            getcontext(&fibers[n]);
            fibers[n].uc_stack.ss_sp = stacks.data() + n * STACK;
            fibers[n].uc_stack.ss_size = STACK;
            fibers[n].uc_link = nullptr;
            makecontext(&fibers[n], run_fiber, 0);
        }
        for (bool all = false; !all;) {
            all = true;
            for (unsigned turn = 0; turn < threads; turn++) {
                const unsigned n = block % 2 ? threads - 1 - turn : turn;
                if (done[n]) continue;
                all = false;
                threadIdx = {n, 0};
                swapcontext(&scheduler, &fibers[n]);
            }
        }
    }
}

template <typename... Arguments, size_t... N>
static void call(void (*function)(Arguments...), void** arguments, std::index_sequence<N...>) {
    function(*(Arguments*)arguments[N]...);
}

template <typename... Arguments>
static void call(void (*function)(Arguments...), void** arguments) {
    call(function, arguments, std::index_sequence_for<Arguments...>{});
}

#include GPU_SOURCE

// Launches a kernel, as CUDA's driver does. arguments: the addresses of the kernel's arguments.
#ifdef WORDS
extern "C" void run_fused(unsigned x, unsigned y, unsigned threads, void** arguments) {
    launch([](void** given) { call(fused, given); }, x, y, threads, arguments);
}
#endif
extern "C" void run_local_costs(unsigned x, unsigned y, unsigned threads, void** arguments) {
    launch([](void** given) { call(local_costs, given); }, x, y, threads, arguments);
}
extern "C" void run_simple(unsigned x, unsigned y, unsigned threads, void** arguments) {
    launch([](void** given) { call(simple, given); }, x, y, threads, arguments);
}
