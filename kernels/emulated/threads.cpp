// The threads of a block, as fibers on one thread of the host: each runs until it has to wait for others.
//
// Stricter than a device in what it lets pass: a copy to shared memory is made when it is waited for and not before,
// shared memory ends where a block's ends and begins as NaN, and lanes that wait for some that returned, or for ever,
// end the process with a word about who they are.
#include "threads.h"
#include <sys/mman.h>
#include <vector>

namespace emulated {
uint3 thread_index, block_index;
dim3 block_size, grid_size;
unsigned char* shared;
static const char* running = "";

void fail(const char* why) {
    fprintf(stderr, "emulated device: %s: %s (block %u %u, thread %u)\n", running, why, block_index.x, block_index.y,
            thread_index.x);
    abort();
}

struct Copy {
    void* to;
    const void* from;
    int bytes, size;
};

struct Warp {
    int alive = 0, arrived = 0;
    unsigned generation = 0;
    Slot slots[2][LANES];
};

struct Fiber {
    void* stack = nullptr;
    void* sp = nullptr;
    uint3 index;
    int lane;
    Warp* warp;
    bool done;
    // Waits as long as this is that.
    const unsigned* waits_on = nullptr;
    unsigned waits_for = 0;
    std::vector<Copy> begun;
    std::vector<std::vector<Copy>> groups;
};

constexpr size_t STACK = 256 << 10;
static std::vector<Fiber> fibers;
static std::vector<Warp> warps;
static Fiber* current;
static void* scheduler_sp;
static const Bound* kernel;
static int block_alive, block_arrived;
static unsigned block_generation;

extern "C" void emulated_switch(void** save, void* load);
asm(R"(
.text
.globl emulated_switch
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

static void leave() {
    Fiber* self = current;
    emulated_switch(&self->sp, scheduler_sp);
}

static void wait_while(const unsigned* at, unsigned is) {
    current->waits_on = at;
    current->waits_for = is;
    leave();
}

int lane() { return current->lane; }

void barrier() {
    if (++block_arrived == block_alive) {
        block_arrived = 0;
        block_generation++;
    } else {
        wait_while(&block_generation, block_generation);
    }
}

const Slot* exchange(const void* data, size_t bytes) {
    Warp& warp = *current->warp;
    if (warp.alive != LANES) fail("an exchange in a warp that is not whole");
    const unsigned generation = warp.generation;
    Slot* slots = warp.slots[generation % 2];
    memcpy(slots[current->lane].bytes, data, bytes);
    if (++warp.arrived == LANES) {
        warp.arrived = 0;
        warp.generation++;
    } else {
        wait_while(&warp.generation, generation);
    }
    return slots;
}

// A copy is made when it is waited for, not before: who does not wait reads what was there.
void copy_begun(void* to, const void* from, int bytes, int size) {
    if (reinterpret_cast<size_t>(to) % size || (bytes && reinterpret_cast<size_t>(from) % size))
        fail("a copy to shared memory that is not aligned");
    if (bytes < 0 || bytes > size) fail("a copy of more bytes than there are");
    current->begun.push_back({to, from, bytes, size});
}
void copies_grouped() {
    current->groups.push_back(std::move(current->begun));
    current->begun.clear();
}
void copies_awaited(int pending) {
    auto& groups = current->groups;
    size_t ready = groups.size() > size_t(pending) ? groups.size() - pending : 0;
    for (size_t i = 0; i < ready; i++)
        for (const Copy& copy : groups[i]) {
            memcpy(copy.to, copy.from, copy.bytes);
            memset(static_cast<char*>(copy.to) + copy.bytes, 0, copy.size - copy.bytes);
        }
    groups.erase(groups.begin(), groups.begin() + ready);
}

static void body() {
    (*kernel)();
    Fiber* self = current;
    self->done = true;
    self->warp->alive--;
    block_alive--;
    if (self->warp->arrived && self->warp->arrived == self->warp->alive) fail("lanes wait for some that returned");
    if (block_alive && block_arrived == block_alive) {
        block_arrived = 0;
        block_generation++;
    }
    leave();
}

static void prepare(Fiber& fiber) {
    if (!fiber.stack) {
        fiber.stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fiber.stack == MAP_FAILED) fail("no memory for stacks");
        mprotect(fiber.stack, 4096, PROT_NONE);
    }
    void** top = reinterpret_cast<void**>(static_cast<char*>(fiber.stack) + STACK - 64);
    *--top = nullptr; // where `body` would return to: keeps the stack aligned as after a call
    *--top = reinterpret_cast<void*>(body);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    fiber.sp = top;
    fiber.done = false;
    fiber.waits_on = nullptr;
    fiber.begun.clear();
    fiber.groups.clear();
}

// How the threads of a block take turns: from the first to the last (0), from the last to the first (1), or in steps
// of several (2). What they give must not depend on it.
static int order() {
    static const char* given = getenv("EMULATED_ORDER");
    static const int order = given ? atoi(given) : 0;
    return order;
}

static void run_block(unsigned threads) {
    block_alive = threads;
    block_arrived = 0;
    const unsigned count = (threads + LANES - 1) / LANES;
    for (unsigned w = 0; w < count; w++) warps[w].alive = warps[w].arrived = 0;
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        prepare(fiber);
        fiber.index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
        fiber.lane = i % LANES;
        fiber.warp = &warps[i / LANES];
        fiber.warp->alive++;
    }
    const bool is_backwards = order() == 1;
    const unsigned step = order() == 2 && threads % 7 ? 7 : 1;
    while (block_alive) {
        bool ran = false;
        for (unsigned n = 0; n < threads; n++) {
            const unsigned i = is_backwards ? threads - 1 - n : n * step % threads;
            Fiber& fiber = fibers[i];
            if (fiber.done || (fiber.waits_on && *fiber.waits_on == fiber.waits_for)) continue;
            fiber.waits_on = nullptr;
            current = &fiber;
            thread_index = fiber.index;
            ran = true;
            emulated_switch(&scheduler_sp, fiber.sp);
        }
        if (!ran) {
            current = &fibers[0];
            fail("threads wait for each other for ever");
        }
    }
}

void run(const Bound& what, const char* name, dim3 grid, dim3 block, unsigned shared_bytes) {
    running = name;
    kernel = &what;
    grid_size = grid;
    block_size = block;
    const unsigned threads = block.x * block.y * block.z;
    if (fibers.size() < threads) fibers.resize(threads);
    if (warps.size() * LANES < threads) warps.resize((threads + LANES - 1) / LANES);
    // Ends at memory that is not there.
    static unsigned char* arena;
    constexpr size_t ARENA = 256 << 10;
    if (!arena) {
        arena = static_cast<unsigned char*>(
            mmap(nullptr, ARENA + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        mprotect(arena + ARENA, 4096, PROT_NONE);
    }
    shared = arena + ARENA - (shared_bytes + 127) / 128 * 128;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                block_index = {x, y, z};
                memset(shared, 0xff, arena + ARENA - shared);
                run_block(threads);
            }
}
} // namespace emulated
