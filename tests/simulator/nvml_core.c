/* The simulated libnvidia-ml.so.1: attaching to a machine, initialisation, handles, faults of every call. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "nvml.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static machine_t *attached;
static char attached_path[4096];
static unsigned int references;
static unsigned int generation; /* of the driver that nvmlInit met */

static const char *const function_names[] = {
#define SIM_FUNCTION(name) #name,
#include "functions.inc"
#undef SIM_FUNCTION
};
_Static_assert(SIM_FUNCTION_COUNT <= SIM_MAX_FUNCTIONS, "more functions than bits");

/* Point this process at another machine's control file; needs nvmlInit again. For tests in one process. */
EXPORT void sim_attach(const char *path)
{
    pthread_mutex_lock(&mutex);
    strncpy(attached_path, path, sizeof attached_path - 1);
    references = 0;
    pthread_mutex_unlock(&mutex);
}

EXPORT const char *sim_function_name(unsigned int function)
{
    return function < SIM_FUNCTION_COUNT ? function_names[function] : NULL;
}

EXPORT unsigned int sim_control_size(void) { return sizeof(struct sim_control); }

static void count_call(enum sim_function function, unsigned int row)
{
    __atomic_fetch_add(&attached->calls[row][function], 1, __ATOMIC_RELAXED);
}

static int is_missing(enum sim_function function)
{
    return attached && (attached->missing_functions >> function & 1);
}

static nvmlReturn_t attach(void)
{
    const char *path = attached_path[0] ? attached_path : getenv("CARBONMON_SIM_CONTROL");
    machine_t *machine = path ? machine_open(path, attached) : NULL;
    if (!machine)
        return DRIVER_NOT_LOADED;
    attached = machine; /* the same address as before, if there was one: threads inside a call stay safe */
    if (machine->magic != SIM_MAGIC)
        return DRIVER_NOT_LOADED;
    if (machine->version != SIM_VERSION || machine->size != sizeof(struct sim_control))
        return LIB_RM_VERSION_MISMATCH;
    return OK;
}

static nvmlReturn_t initialize(enum sim_function function)
{
    pthread_mutex_lock(&mutex);
    nvmlReturn_t result = OK;
    if (!references || attached->magic != SIM_MAGIC) {
        references = 0;
        result = attach();
    }
    if (result == OK) {
        count_call(function, SIM_MAX_GPUS);
        result = is_missing(function) ? FUNCTION_NOT_FOUND : attached->init_error;
    }
    if (result == OK) {
        generation = attached->driver_generation;
        references++;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    return initialize(FN_nvmlInitWithFlags);
}

EXPORT nvmlReturn_t nvmlInit_v2(void) { return initialize(FN_nvmlInit_v2); }

EXPORT nvmlReturn_t nvmlInit(void) { return initialize(FN_nvmlInit); }

EXPORT nvmlReturn_t nvmlShutdown(void)
{
    pthread_mutex_lock(&mutex);
    nvmlReturn_t result = references ? OK : UNINITIALIZED;
    if (references) {
        references--;
        count_call(FN_nvmlShutdown, SIM_MAX_GPUS);
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

nvmlReturn_t enter(enum sim_function function, machine_t **machine)
{
    if (!references || attached->magic != SIM_MAGIC)
        return UNINITIALIZED;
    *machine = attached;
    count_call(function, SIM_MAX_GPUS);
    if (is_missing(function))
        return FUNCTION_NOT_FOUND;
    return attached->driver_generation == generation ? OK : UNINITIALIZED;
}

/* Handles are numbers, never addresses: 0x51 | driver generation (16 bits) | place (8) | instance + 1 (8). */
nvmlDevice_t make_handle(unsigned int place, int mig)
{
    uintptr_t number = (uintptr_t)0x51 << 32 | (uintptr_t)(generation & 0xffff) << 16 | place << 8;
    return (nvmlDevice_t)(number | (uintptr_t)(mig + 1));
}

static nvmlReturn_t faults(gpu_t *gpu)
{
    while (gpu->hang && attached->magic == SIM_MAGIC)
        machine_sleep_s(0.002);
    if (gpu->slow_s > 0)
        machine_sleep_s(gpu->slow_s);
    if (gpu->lost)
        return GPU_IS_LOST;
    return gpu->no_permission ? NO_PERMISSION : OK;
}

nvmlReturn_t enter_device(enum sim_function function, nvmlDevice_t handle, struct target *target)
{
    if (!references || attached->magic != SIM_MAGIC)
        return UNINITIALIZED;
    uintptr_t number = (uintptr_t)handle;
    unsigned int place = number >> 8 & 0xff;
    int mig = (int)(number & 0xff) - 1;
    int current = number >> 16 == ((uintptr_t)0x51 << 16 | (generation & 0xffff));
    int known = current && place < attached->gpu_count && mig < SIM_MAX_MIG;
    count_call(function, known ? place : SIM_MAX_GPUS);
    if (is_missing(function))
        return FUNCTION_NOT_FOUND;
    if (attached->driver_generation != generation)
        return UNINITIALIZED;
    if (!known || (mig >= 0 && !attached->gpu[place].mig[mig].present))
        return INVALID_ARGUMENT;
    target->machine = attached;
    target->gpu = &attached->gpu[place];
    target->place = place;
    target->mig = mig;
    nvmlReturn_t result = faults(target->gpu);
    target->now_s = machine_now_s(attached);
    target->loaded_s = current_epoch(attached)->loaded_s;
    return result != OK ? result : target->gpu->call_error;
}

nvmlReturn_t find_handle(machine_t *machine, unsigned int place, int mig, nvmlDevice_t *handle)
{
    gpu_t *gpu = &machine->gpu[place];
    nvmlReturn_t result = faults(gpu);
    if (result == OK)
        result = gpu->call_error;
    if (result == OK)
        *handle = make_handle(place, mig);
    return result;
}

nvmlReturn_t give_text(const volatile char *text, char *buffer, unsigned int length)
{
    const char *stable = (const char *)(uintptr_t)text;
    if (!buffer)
        return INVALID_ARGUMENT;
    if (strlen(stable) >= length)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, stable);
    return OK;
}

EXPORT const char *nvmlErrorString(nvmlReturn_t code)
{
    if (references)
        count_call(FN_nvmlErrorString, SIM_MAX_GPUS);
    switch (code) {
    case OK: return "The operation was successful";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case FUNCTION_NOT_FOUND: return "Function Not Found";
    case GPU_IS_LOST: return "GPU is lost";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    machine_t *machine;
    nvmlReturn_t result = enter(FN_nvmlSystemGetDriverVersion, &machine);
    return result != OK ? result : give_text(machine->driver_version, version, length);
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
    machine_t *machine;
    nvmlReturn_t result = enter(FN_nvmlSystemGetNVMLVersion, &machine);
    return result != OK ? result : give_text(machine->nvml_version, version, length);
}
