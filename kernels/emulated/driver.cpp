// libcuda.so.1 of an emulated device: memory is the host's, and a stream is a list of things to do that are done when
// somebody waits for them, as late as a device might.
//
// An allocation begins as NaN, if it is below 64 MiB, and what is read or written behind its end is a fault.
#include "threads.h"
#include <dlfcn.h>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

typedef int CUresult;
typedef unsigned long long CUdeviceptr;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, LAUNCH_FAILED = 719, STREAM_CAPTURE = 900 };
#define API extern "C" __attribute__((visibility("default")))

using namespace emulated;
using Work = std::function<void()>;

static std::recursive_mutex everything;
#define LOCK std::lock_guard<std::recursive_mutex> lock(everything)

struct Stream {
    std::vector<Work> todo;
    std::vector<Work>* recorded = nullptr;
    // Who records.
    std::thread::id by;
};
static std::vector<Stream*> streams;

// A device that is lost answers nothing any more: after so many launches, where that is asked for.
static long launches;
static bool is_lost() {
    static const char* given = getenv("EMULATED_LAUNCHES");
    static const long most = given ? atol(given) : -1;
    return most >= 0 && launches > most;
}

static void finish(Stream& stream) {
    std::vector<Work> todo;
    todo.swap(stream.todo);
    for (Work& work : todo) work();
}
static void finish_all() {
    for (Stream* stream : streams) finish(*stream);
}
static void add(Stream* stream, Work work) {
    if (stream->recorded)
        stream->recorded->push_back(std::move(work));
    else
        stream->todo.push_back(std::move(work));
}

struct Function {
    std::string name;
    Bound* (*bind)(void**);
    int shared_most = 48 << 10;
};
struct Module {
    void* library;
    std::map<std::string, std::unique_ptr<Function>> functions;
};

// Allocations by their addresses; each ends at memory that is not there.
constexpr size_t PAGE = 4096;
struct Allocation {
    void* mapped;
    size_t mapped_bytes, bytes;
};
static std::map<CUdeviceptr, Allocation> allocations;
static std::map<size_t, size_t> pinned;
static size_t used;
static size_t total() {
    static const char* given = getenv("EMULATED_MEMORY");
    static const size_t bytes = given ? strtoull(given, nullptr, 0) : size_t(4) << 30;
    return bytes;
}

static bool is_pinned(const void* at) {
    const size_t address = reinterpret_cast<size_t>(at);
    auto after = pinned.upper_bound(address);
    if (after == pinned.begin()) return false;
    --after;
    return address < after->first + after->second;
}

// The device's memory at `at` for `bytes`, or an end.
static void check_device(CUdeviceptr at, size_t bytes, const char* what) {
    auto after = allocations.upper_bound(at);
    if (after == allocations.begin() || (--after, at + bytes > after->first + after->second.bytes)) {
        fprintf(stderr, "emulated device: %s of memory that is not allocated\n", what);
        abort();
    }
}

API CUresult cuInit(unsigned) { return SUCCESS; }
API CUresult cuDriverGetVersion(int* version) { return *version = 12090, SUCCESS; }
API CUresult cuGetErrorName(CUresult, const char** name) { return *name = "CUDA_ERROR_EMULATED", SUCCESS; }
API CUresult cuGetErrorString(CUresult, const char** name) { return *name = "an error of the emulated device", SUCCESS; }
API CUresult cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
API CUresult cuDeviceGet(int* device, int ordinal) { return ordinal ? INVALID_VALUE : (*device = 0, SUCCESS); }
API CUresult cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "emulated"), SUCCESS; }
API CUresult cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = total(), SUCCESS; }
API CUresult cuDeviceGetAttribute(int* value, int what, int) {
    switch (what) {
    case 1: *value = 1024; break;               // threads of a block
    case 2: case 3: *value = 1024; break;       // along x, y
    case 4: *value = 64; break;
    case 5: *value = 0x7fffffff; break;         // grid
    case 6: case 7: *value = 65535; break;
    case 16: *value = 132; break;               // multiprocessors
    case 38: *value = 50 << 20; break;          // L2
    case 75: *value = 9; break;                 // capability
    case 76: *value = 0; break;
    case 97: *value = 227 << 10; break;         // shared memory of a block
    default: fprintf(stderr, "emulated device: attribute %d\n", what); return INVALID_VALUE;
    }
    return SUCCESS;
}
API CUresult cuDevicePrimaryCtxRetain(void** context, int) { return *context = reinterpret_cast<void*>(16), SUCCESS; }
API CUresult cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API CUresult cuCtxSetCurrent(void*) { return SUCCESS; }

API CUresult cuStreamCreate(void** made, unsigned) {
    LOCK;
    auto* stream = new Stream;
    streams.push_back(stream);
    return *made = stream, SUCCESS;
}
API CUresult cuStreamDestroy_v2(Stream* stream) {
    LOCK;
    finish(*stream);
    for (auto it = streams.begin(); it != streams.end(); ++it)
        if (*it == stream) {
            streams.erase(it);
            break;
        }
    delete stream;
    return SUCCESS;
}
API CUresult cuStreamSynchronize(Stream* stream) {
    LOCK;
    if (stream->recorded) return STREAM_CAPTURE;
    if (is_lost()) return LAUNCH_FAILED;
    finish(*stream);
    return SUCCESS;
}
API CUresult cuStreamBeginCapture_v2(Stream* stream, int) {
    LOCK;
    if (stream->recorded) return STREAM_CAPTURE;
    stream->by = std::this_thread::get_id();
    return stream->recorded = new std::vector<Work>, SUCCESS;
}
API CUresult cuStreamEndCapture(Stream* stream, void** graph) {
    LOCK;
    *graph = stream->recorded;
    return stream->recorded = nullptr, SUCCESS;
}
API CUresult cuGraphInstantiateWithFlags(void** made, std::vector<Work>* graph, unsigned long long) {
    return *made = new std::vector<Work>(*graph), SUCCESS;
}
API CUresult cuGraphDestroy(std::vector<Work>* graph) { return delete graph, SUCCESS; }
API CUresult cuGraphExecDestroy(std::vector<Work>* graph) { return delete graph, SUCCESS; }
API CUresult cuGraphLaunch(std::vector<Work>* graph, Stream* stream) {
    LOCK;
    launches += graph->size();
    if (is_lost()) return LAUNCH_FAILED;
    for (const Work& work : *graph) add(stream, work);
    return SUCCESS;
}

// Times say nothing here: each is a millisecond.
API CUresult cuEventCreate(void** event, unsigned) { return *event = malloc(8), SUCCESS; }
API CUresult cuEventDestroy_v2(void* event) { return free(event), SUCCESS; }
API CUresult cuEventRecord(void*, void*) { return SUCCESS; }
API CUresult cuEventSynchronize(void*) {
    LOCK;
    return finish_all(), SUCCESS;
}
API CUresult cuEventElapsedTime_v2(float* ms, void*, void*) { return *ms = 1, SUCCESS; }

API CUresult cuMemGetInfo_v2(size_t* left, size_t* all) {
    LOCK;
    *all = total();
    *left = total() - used;
    return SUCCESS;
}
API CUresult cuMemAlloc_v2(CUdeviceptr* made, size_t bytes) {
    LOCK;
    for (Stream* stream : streams)
        if (stream->recorded && stream->by == std::this_thread::get_id()) return STREAM_CAPTURE;
    if (used + bytes > total()) return OUT_OF_MEMORY;
    const size_t room = (bytes + 15) / 16 * 16, mapped = (room + PAGE - 1) / PAGE * PAGE + 2 * PAGE;
    char* at = static_cast<char*>(mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (at == MAP_FAILED) return OUT_OF_MEMORY;
    mprotect(at, PAGE, PROT_NONE);
    mprotect(at + mapped - PAGE, PAGE, PROT_NONE);
    char* start = at + mapped - PAGE - room;
    // What nobody wrote is no number; of large ones that would take the host's memory.
    if (bytes < (64 << 20)) memset(start, 0xff, room);
    *made = reinterpret_cast<CUdeviceptr>(start);
    allocations[*made] = {at, mapped, bytes};
    used += bytes;
    return SUCCESS;
}
API CUresult cuMemFree_v2(CUdeviceptr at) {
    LOCK;
    for (Stream* stream : streams)
        if (stream->recorded && stream->by == std::this_thread::get_id()) return STREAM_CAPTURE;
    finish_all();
    auto found = allocations.find(at);
    if (found == allocations.end()) return INVALID_VALUE;
    munmap(found->second.mapped, found->second.mapped_bytes);
    used -= found->second.bytes;
    allocations.erase(found);
    return SUCCESS;
}
API CUresult cuMemHostAlloc(void** made, size_t bytes, unsigned) {
    LOCK;
    *made = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    memset(*made, 0xff, bytes);
    pinned[reinterpret_cast<size_t>(*made)] = bytes;
    return SUCCESS;
}
API CUresult cuMemFreeHost(void* at) {
    LOCK;
    finish_all();
    pinned.erase(reinterpret_cast<size_t>(at));
    return free(at), SUCCESS;
}
API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, Stream* stream) {
    LOCK;
    check_device(to, bytes, "filling");
    add(stream, [=] { memset(reinterpret_cast<void*>(to), value, bytes); });
    return SUCCESS;
}
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, Stream* stream) {
    LOCK;
    check_device(to, bytes, "a copy");
    if (is_pinned(from)) {
        add(stream, [=] { memcpy(reinterpret_cast<void*>(to), from, bytes); });
    } else {
        std::string held(static_cast<const char*>(from), bytes);
        add(stream, [=] { memcpy(reinterpret_cast<void*>(to), held.data(), bytes); });
    }
    return SUCCESS;
}
API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, Stream* stream) {
    LOCK;
    check_device(from, bytes, "a copy");
    add(stream, [=] { memcpy(to, reinterpret_cast<void*>(from), bytes); });
    if (!is_pinned(to)) {
        if (stream->recorded) return STREAM_CAPTURE;
        finish(*stream);
    }
    return SUCCESS;
}
API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, Stream* stream) {
    LOCK;
    check_device(from, bytes, "a copy");
    check_device(to, bytes, "a copy");
    add(stream, [=] { memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes); });
    return SUCCESS;
}
struct Copy2d {
    size_t from_x, from_y;
    int from_type;
    const char* from_host;
    CUdeviceptr from_device;
    void* from_array;
    size_t from_pitch, to_x, to_y;
    int to_type;
    char* to_host;
    CUdeviceptr to_device;
    void* to_array;
    size_t to_pitch, width, height;
};
API CUresult cuMemcpy2DAsync_v2(const Copy2d* given, Stream* stream) {
    LOCK;
    const Copy2d copy = *given;
    // The host's memory is pinned where this is used.
    add(stream, [copy] {
        const char* from = copy.from_type == 1 ? copy.from_host : reinterpret_cast<const char*>(copy.from_device);
        char* to = copy.to_type == 1 ? copy.to_host : reinterpret_cast<char*>(copy.to_device);
        for (size_t row = 0; row < copy.height; row++)
            memcpy(to + row * copy.to_pitch, from + row * copy.from_pitch, copy.width);
    });
    return SUCCESS;
}

API CUresult cuModuleLoadData(void** made, const char* image) {
    LOCK;
    unsigned long long bytes;
    memcpy(&bytes, image + 8, 8);
    if (memcmp(image, "EMULATED", 8)) return INVALID_VALUE;
    std::string path = std::filesystem::temp_directory_path() / "emulated-XXXXXX";
    const int file = mkstemp(path.data());
    if (write(file, image + 16, bytes) != ssize_t(bytes)) return INVALID_VALUE;
    close(file);
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    unlink(path.c_str());
    if (!library) {
        fprintf(stderr, "emulated device: %s\n", dlerror());
        return INVALID_VALUE;
    }
    return *made = new Module{library, {}}, SUCCESS;
}
API CUresult cuModuleUnload(Module* module) {
    LOCK;
    dlclose(module->library);
    return delete module, SUCCESS;
}
API CUresult cuModuleGetFunction(void** made, Module* module, const char* name) {
    LOCK;
    auto* bind = reinterpret_cast<Bound* (*)(void**)>(dlsym(module->library, (std::string("bind_") + name).c_str()));
    if (!bind) return NOT_FOUND;
    auto& function = module->functions[name];
    if (!function) function.reset(new Function{name, bind});
    return *made = function.get(), SUCCESS;
}
API CUresult cuFuncGetAttribute(int* value, int, void*) { return *value = 0, SUCCESS; }
API CUresult cuFuncSetAttribute(Function* function, int, int value) { return function->shared_most = value, SUCCESS; }
API CUresult cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                            unsigned bz, unsigned shared_bytes, Stream* stream, void** arguments, void**) {
    LOCK;
    if (int(shared_bytes) > function->shared_most || bx * by * bz > 1024) return INVALID_VALUE;
    if (gx == 0 || gy == 0 || gz == 0) return INVALID_VALUE;
    launches++;
    if (is_lost()) return LAUNCH_FAILED;
    std::shared_ptr<Bound> what(function->bind(arguments));
    add(stream, [=] { run(*what, function->name.c_str(), dim3{gx, gy, gz}, dim3{bx, by, bz}, shared_bytes); });
    return SUCCESS;
}

// For the emulated library of products: something to do in the stream's order.
API void emulated_add(void* stream, const Work* work) {
    LOCK;
    add(static_cast<Stream*>(stream), *work);
}
