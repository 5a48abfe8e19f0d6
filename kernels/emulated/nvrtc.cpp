// libnvrtc.so.12 of an emulated device: kernels are compiled for the host by its C++ compiler.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <unistd.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

struct Program {
    std::string source;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string image, log;
};

// The folder of this library, where the emulated device's own headers and driver are.
static std::string home() {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(home), &info);
    const std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/'));
}

static std::string read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

static void write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
}

// Names of kernels: what follows their mark and `void`.
static std::vector<std::string> kernels(const std::string& text) {
    std::vector<std::string> found;
    const std::string mark = "cento_kernel))";
    for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at)) {
        at += mark.size();
        const size_t open = text.find('(', at);
        size_t end = open;
        while (isspace(text[end - 1])) end--;
        size_t begin = end;
        while (isalnum(text[begin - 1]) || text[begin - 1] == '_') begin--;
        found.push_back(text.substr(begin, end - begin));
    }
    return found;
}

// A version that NVIDIA's never has: what is compiled here is not to be taken for what that makes.
API int nvrtcVersion(int* major, int* minor) { return *major = 12, *minor = 999, 0; }
API int nvrtcGetNumSupportedArchs(int* count) { return *count = 3, 0; }
API int nvrtcGetSupportedArchs(int* all) { return all[0] = 80, all[1] = 89, all[2] = 90, 0; }
API const char* nvrtcGetErrorString(int) { return "the host's compiler refused it"; }
API int nvrtcCreateProgram(Program** made, const char* source, const char*, int count, const char* const* texts,
                           const char* const* names) {
    *made = new Program{source, {}, {}, {}};
    for (int i = 0; i < count; i++) {
        std::string text = texts[i];
        const size_t at = text.find("#ifndef CENTO_EMULATED");
        if (!strcmp(names[i], "prelude.cuh")) text.insert(at, "#include \"instructions.h\"\n");
        (*made)->headers.emplace_back(names[i], text);
    }
    return 0;
}
API int nvrtcDestroyProgram(Program** program) { return delete *program, 0; }
API int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    std::string at = std::filesystem::temp_directory_path() / "emulated-XXXXXX";
    if (!mkdtemp(at.data())) return 1;
    const std::string source = at + "/kernel.cpp", library = at + "/kernel.so", log = at + "/log";
    for (const auto& [name, text] : program->headers) write(at + "/" + name, text);
    write(source, program->source);
    std::string flags = " -std=c++17 -O2 -mavx2 -mf16c -mfma -ffp-contract=off -fPIC -w -I " + at + " -I " + home() +
                        " -include device.h";
    for (int i = 0; i < count; i++)
        if (!strncmp(options[i], "-D", 2)) flags += std::string(" ") + options[i];
    const auto run = [&](const std::string& command) {
        return system(("c++ " + command + flags + " 2> " + log).c_str());
    };
    int failed = run("-E -o " + at + "/text " + source);
    std::string more;
    for (const std::string& name : kernels(read(at + "/text")))
        more += "extern \"C\" emulated::Bound* bind_" + name + "(void** given) { return emulated::bind(" + name + ", given); }\n";
    write(source, program->source + "\n" + more);
    if (!failed) failed = run("-shared -o " + library + " " + source + " -L " + home() + " -l:libcuda.so.1");
    program->log = read(log);
    if (!failed) {
        const std::string code = read(library);
        unsigned long long bytes = code.size();
        program->image = "EMULATED" + std::string(reinterpret_cast<char*>(&bytes), 8) + code;
    }
    std::filesystem::remove_all(at);
    return failed ? 6 : 0;
}
static int size(const std::string& text, size_t* bytes) { return *bytes = text.size() + 1, 0; }
static int copy(const std::string& text, char* to) { return memcpy(to, text.c_str(), text.size() + 1), 0; }
API int nvrtcGetCUBINSize(Program* program, size_t* bytes) { return size(program->image, bytes); }
API int nvrtcGetCUBIN(Program* program, char* to) { return copy(program->image, to); }
API int nvrtcGetPTXSize(Program* program, size_t* bytes) { return size(program->image, bytes); }
API int nvrtcGetPTX(Program* program, char* to) { return copy(program->image, to); }
API int nvrtcGetProgramLogSize(Program* program, size_t* bytes) { return size(program->log, bytes); }
API int nvrtcGetProgramLog(Program* program, char* to) { return copy(program->log, to); }
