// The load in CUDA, for machines with neither PyTorch nor CuPy: nvcc -O2 -o load load.cu
// It reads the same lines on stdin and writes the same on stdout as worker.py.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <string>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const double burst_s = 0.004;

// Multiplications that depend on one another, in every thread, with a result that the compiler cannot drop.
__global__ void multiply(float *out, int rounds)
{
    float a = threadIdx.x * 1e-6f + 1.0f, b = a + 0.5f, c = a + 0.25f, d = a + 0.125f;
    for (int i = 0; i < rounds; i++) {
        a = a * 0.999999f + 1e-6f;
        b = b * 0.999999f + 1e-6f;
        c = c * 0.999999f + 1e-6f;
        d = d * 0.999999f + 1e-6f;
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = a + b + c + d;
}

static float *out;
static int blocks, rounds = 1024;

static void burst()
{
    multiply<<<blocks, 256>>>(out, rounds);
    if (cudaDeviceSynchronize() != cudaSuccess)
        exit(1);
}

static double now_s()
{
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void say_at(const char *word)
{
    timeval now;
    gettimeofday(&now, NULL);
    printf("%s %ld.%06ld\n", word, (long)now.tv_sec, (long)now.tv_usec);
    fflush(stdout);
}

static std::string rest;

// The next line of stdin into `line`, waiting for at most so long; false if none came. The end is "quit".
static bool next(std::string &line, double timeout_s)
{
    double deadline_s = now_s() + timeout_s;
    for (;;) {
        size_t end = rest.find('\n');
        if (end != std::string::npos) {
            line = rest.substr(0, end);
            rest.erase(0, end + 1);
            return true;
        }
        double left_s = deadline_s - now_s();
        pollfd in = {0, POLLIN, 0};
        int ready = poll(&in, 1, left_s <= 0 ? 0 : left_s > 3600 ? 3600000 : (int)(left_s * 1e3));
        if (ready > 0) {
            char data[256];
            ssize_t count = read(0, data, sizeof data);
            if (count <= 0) {
                line = "quit";
                return true;
            }
            rest.append(data, count);
        } else if (now_s() >= deadline_s || left_s < 1e-3) {
            return false;
        }
    }
}

static bool busy_until(std::string &line, double end_s)
{
    while (now_s() < end_s) {
        burst();
        if (next(line, 0))
            return true;
    }
    return false;
}

int main()
{
    cudaDeviceProp device;
    if (cudaGetDeviceProperties(&device, 0) != cudaSuccess)
        return 1;
    blocks = device.multiProcessorCount * 8;
    if (cudaMalloc(&out, blocks * 256 * sizeof(float)) != cudaSuccess)
        return 1;
    burst();
    for (double took_s = 0; took_s < burst_s / 2 && rounds < 1 << 24;) {
        rounds *= 2;
        double begin_s = now_s();
        burst();
        took_s = now_s() - begin_s;
    }
    printf("ready\n");
    fflush(stdout);
    std::string line = "idle";
    while (line != "quit") {
        if (line == "steady") {
            busy_until(line, now_s() + 1e9);
        } else if (line.compare(0, 7, "square ") == 0) {
            double period_s = atof(line.c_str() + 7), begin_s = now_s();
            bool told = false;
            for (int number = 1; !told; number++) {
                say_at("on");
                told = busy_until(line, begin_s + (number - 0.5) * period_s);
                say_at("off");
                if (!told)
                    told = next(line, begin_s + number * period_s - now_s());
            }
        } else {
            next(line, 1e9);
        }
    }
    return 0;
}
