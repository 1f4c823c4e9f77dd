/* The part of NVML's binary interface that the simulated library serves, and what its files share.
 * Codes, names and struct layouts are those of NVIDIA's documented API as the pynvml binding declares them.
 * With VENDOR_NVML_H, a path, the types and prototypes are those of the vendor's own header instead: a compiler
 * then finds every function here that differs from its declaration there. */
#ifndef NVML_H
#define NVML_H

#include <stddef.h>
#include <stdint.h>

#include "sim.h"

#ifdef VENDOR_NVML_H
#define NVML_NO_UNVERSIONED_FUNC_DEFS /* else nvmlInit is a macro for nvmlInit_v2 */
#include VENDOR_NVML_H
#else
#include "nvml_types.h"
#endif

#include "nvml_codes.h"

#define EXPORT __attribute__((visibility("default")))

_Static_assert(sizeof(nvmlFieldValue_t) == 40, "layout");
_Static_assert(sizeof(nvmlSample_t) == 16, "layout");
_Static_assert(sizeof(nvmlProcessInfo_t) == 24, "layout");
_Static_assert(sizeof(nvmlProcessUtilizationSample_t) == 32, "layout");
_Static_assert(sizeof(nvmlPciInfo_t) == 68, "layout");
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
