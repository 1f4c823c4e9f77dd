/* The part of NVML's binary interface that the simulated library serves, and what its files share.
 * Codes, names and struct layouts are those of NVIDIA's documented API as the pynvml binding declares them. */
#ifndef NVML_H
#define NVML_H

#include <stddef.h>
#include <stdint.h>

#include "sim.h"

#define EXPORT __attribute__((visibility("default")))

typedef unsigned int nvmlReturn_t;
enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    LIB_RM_VERSION_MISMATCH = 18,
    UNKNOWN = 999,
};

typedef struct nvmlDevice_st *nvmlDevice_t;

typedef union {
    double d;
    unsigned int ui;
    unsigned long long ull;
} nvmlValue_t;

enum { VALUE_UNSIGNED_INT = 1, VALUE_UNSIGNED_LONG_LONG = 3 };
enum { FIELD_TOTAL_ENERGY = 83, FIELD_POWER_AVERAGE = 185, FIELD_POWER_INSTANT = 186 };
enum { TOTAL_POWER_SAMPLES = 0, GPU_UTILIZATION_SAMPLES = 1 };

typedef struct {
    unsigned int fieldId;
    unsigned int scopeId;
    long long timestamp; /* Unix time, us */
    long long latencyUsec;
    unsigned int valueType;
    nvmlReturn_t nvmlReturn;
    nvmlValue_t value;
} nvmlFieldValue_t;
_Static_assert(sizeof(nvmlFieldValue_t) == 40, "layout");

typedef struct {
    unsigned long long timeStamp; /* Unix time, us */
    nvmlValue_t value;
} nvmlSample_t;
_Static_assert(sizeof(nvmlSample_t) == 16, "layout");

typedef struct {
    unsigned int pid;
    unsigned long long usedGpuMemory;
    unsigned int gpuInstanceId;
    unsigned int computeInstanceId;
} nvmlProcessInfo_t;
_Static_assert(sizeof(nvmlProcessInfo_t) == 24, "layout");

typedef struct {
    unsigned int pid;
    unsigned long long timeStamp; /* Unix time, us */
    unsigned int smUtil;
    unsigned int memUtil;
    unsigned int encUtil;
    unsigned int decUtil;
} nvmlProcessUtilizationSample_t;
_Static_assert(sizeof(nvmlProcessUtilizationSample_t) == 32, "layout");

typedef struct {
    unsigned int gpu;
    unsigned int memory;
} nvmlUtilization_t;

typedef struct {
    unsigned long long total;
    unsigned long long free;
    unsigned long long used;
} nvmlMemory_t;

typedef struct {
    char busIdLegacy[16];
    unsigned int domain;
    unsigned int bus;
    unsigned int device;
    unsigned int pciDeviceId;
    unsigned int pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;
_Static_assert(sizeof(nvmlPciInfo_t) == 68, "layout");

typedef struct {
    unsigned int multiprocessorCount;
    unsigned int sharedCopyEngineCount;
    unsigned int sharedDecoderCount;
    unsigned int sharedEncoderCount;
    unsigned int sharedJpegCount;
    unsigned int sharedOfaCount;
    unsigned int gpuInstanceSliceCount;
    unsigned int computeInstanceSliceCount;
    unsigned long long memorySizeMB;
} nvmlDeviceAttributes_t;
_Static_assert(sizeof(nvmlDeviceAttributes_t) == 40, "layout");

/* ---- what the library's own files share ---- */

typedef volatile struct sim_control machine_t;
typedef volatile struct sim_gpu gpu_t;

/* A device handle taken apart. */
struct target {
    machine_t *machine;
    gpu_t *gpu;
    unsigned int place; /* in the control file's gpu[] */
    int mig;            /* index of the MIG instance, or -1 for the GPU itself */
    double now_s;
    double loaded_s; /* when the driver was loaded */
};

/* Entry of a function on no GPU: counts the call; OK, or why it cannot be served. */
nvmlReturn_t enter(enum sim_function function, machine_t **machine);
/* Entry of a function on a device: the same, and the faults that hit every call on that GPU. */
nvmlReturn_t enter_device(enum sim_function function, nvmlDevice_t handle, struct target *target);
/* A lookup has found this GPU: the faults that hit lookups, else the handle. */
nvmlReturn_t find_handle(machine_t *machine, unsigned int place, int mig, nvmlDevice_t *handle);
nvmlDevice_t make_handle(unsigned int place, int mig);

static inline const volatile struct sim_epoch *current_epoch(machine_t *machine)
{
    return &machine->epoch[machine->driver_generation & 1];
}

static inline unsigned long long wall_us(machine_t *machine, double boottime_s)
{
    return (unsigned long long)((boottime_s + machine->wall_offset_s) * 1e6 + 0.5);
}

/* Copies a string that never changes once the machine runs. */
nvmlReturn_t give_text(const volatile char *text, char *buffer, unsigned int length);

#endif
