/* The simulated libamd_smi.so: the calls of a monitor, with the structs of ROCm 7.0 (amdsmi.h 26.0). */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "amdsmi.h"
#include "machine.h"
#include "profile.h"

#define EXPORT __attribute__((visibility("default")))
#define TICKS_PER_J 65536.0
#define UNIT_UJ 15.3f /* as the library says: 2^-16 J, rounded */

enum {
    OK = 0,
    INVAL = 1,
    NOT_SUPPORTED = 2,
    NOT_INIT = 32,
    DRIVER_NOT_LOADED = 34,
};

typedef uint32_t status_t;
typedef void *handle_t;

typedef struct {
    uint32_t major, minor, release, padding;
    const char *build;
} version_t;

typedef struct {
    uint64_t socket_power;
    uint32_t current_socket_power;
    uint32_t average_socket_power;
    uint64_t gfx_voltage, soc_voltage, mem_voltage;
    uint32_t power_limit, padding;
    uint64_t reserved[18];
} power_info_t;

typedef struct {
    uint64_t power_cap, default_power_cap, dpm_cap, min_power_cap, max_power_cap, reserved[3];
} power_cap_info_t;

typedef struct {
    uint32_t gfx_activity, umc_activity, mm_activity, reserved[13];
} engine_usage_t;

typedef struct {
    char name[256];
    uint32_t pid, padding;
    uint64_t mem;
    struct {
        uint64_t gfx, enc;
        uint32_t reserved[12];
    } engine_usage;
    struct {
        uint64_t gtt_mem, cpu_mem, vram_mem;
        uint32_t reserved[10];
    } memory_usage;
    char container_name[256];
    uint32_t cu_occupancy, reserved[11];
} proc_info_t;

typedef struct {
    uint32_t drm_render, drm_card, hsa_id, hip_id;
    char hip_uuid[256];
} enumeration_info_t;

typedef struct {
    char market_name[256];
    uint32_t vendor_id;
    char vendor_name[256];
    uint32_t subvendor_id;
    uint64_t device_id;
    uint32_t rev_id;
    char asic_serial[256];
    uint32_t oam_id, num_of_compute_units, padding;
    uint64_t target_graphics_version;
    uint32_t subsystem_id, reserved[21];
} asic_info_t;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile struct amd_control *control;
static volatile struct sim_control *machine;
static int is_initialised;
static uint32_t generation;

static volatile struct amd_control *attach(void)
{
    const char *path = getenv("CARBONMON_SIM_AMDSMI");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    void *map = mmap(NULL, sizeof(struct amd_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return NULL;
    volatile struct amd_control *found = map;
    return found->magic == AMD_MAGIC && found->size == sizeof(struct amd_control) ? found : NULL;
}

EXPORT uint32_t sim_amdsmi_size(void) { return sizeof(struct amd_control); }

EXPORT status_t amdsmi_init(uint64_t flags)
{
    (void)flags;
    pthread_mutex_lock(&mutex);
    status_t result = OK;
    control = attach(); /* old mappings stay: threads inside a call are safe */
    machine = control && getenv("CARBONMON_SIM_CONTROL") ? machine_open(getenv("CARBONMON_SIM_CONTROL"), NULL) : NULL;
    if (!control || !machine || machine->magic != SIM_MAGIC)
        result = DRIVER_NOT_LOADED;
    else
        result = control->init_error;
    is_initialised = result == OK;
    if (result == OK) {
        control->is_away = 0;
        generation++;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

EXPORT status_t amdsmi_shut_down(void)
{
    if (!is_initialised)
        return NOT_INIT;
    is_initialised = 0; /* for the whole process, however often it was initialised */
    control->shut_downs++;
    return OK;
}

EXPORT status_t amdsmi_get_lib_version(version_t *version)
{
    volatile struct amd_control *told = control ? control : attach(); /* needs no initialisation */
    if (!told)
        return DRIVER_NOT_LOADED;
    memset(version, 0, sizeof *version);
    version->major = told->version[0]; /* "year" in packages of ROCm 6.3 and older */
    version->minor = told->version[1];
    version->release = told->version[2];
    version->build = "simulator";
    return OK;
}

EXPORT void amdsmi_free_name_value_pairs(void *pairs) { free(pairs); }

static int is_up(void) { return is_initialised && control->magic == AMD_MAGIC && !control->is_away; }

/* Handles are numbers: 0xA3D | generation (16 bits) | place of the card (8) | partition (8). */
static handle_t make_handle(uint32_t place, uint32_t partition)
{
    return (handle_t)((uintptr_t)0xA3D << 32 | (uintptr_t)(generation & 0xffff) << 16 | place << 8 | partition);
}

struct target {
    volatile struct amd_card *card;
    uint32_t partition;
    double now_s;
};

static status_t enter(handle_t handle, struct target *target)
{
    if (!is_up())
        return NOT_INIT;
    control->calls++;
    uintptr_t number = (uintptr_t)handle;
    uint32_t place = number >> 8 & 0xff, partition = number & 0xff;
    if (number >> 16 != ((uintptr_t)0xA3D << 16 | (generation & 0xffff)) || place >= control->card_count)
        return INVAL;
    volatile struct amd_card *card = &control->card[place];
    if (partition >= card->partitions)
        return INVAL;
    while (card->hang && control->magic == AMD_MAGIC)
        machine_sleep_s(0.002);
    if (card->slow_s > 0)
        machine_sleep_s(card->slow_s);
    target->card = card;
    target->partition = partition;
    target->now_s = machine_now_s(machine);
    return card->call_error;
}

EXPORT status_t amdsmi_get_socket_handles(uint32_t *count, handle_t *handles)
{
    if (!is_up())
        return NOT_INIT;
    if (handles)
        for (uint32_t i = 0; i < *count && i < control->card_count; i++)
            handles[i] = (handle_t)(uintptr_t)(control->order[i] + 1);
    *count = control->card_count;
    return OK;
}

EXPORT status_t amdsmi_get_processor_handles(handle_t socket, uint32_t *count, handle_t *handles)
{
    uint32_t place = (uint32_t)(uintptr_t)socket - 1;
    if (!is_up())
        return NOT_INIT;
    if (place >= control->card_count)
        return INVAL;
    uint32_t partitions = control->card[place].partitions;
    if (handles)
        for (uint32_t i = 0; i < *count && i < partitions; i++)
            handles[i] = make_handle(place, i);
    *count = partitions;
    return OK;
}

EXPORT status_t amdsmi_get_gpu_device_bdf(handle_t handle, uint64_t *bdf)
{
    struct target t;
    status_t result = enter(handle, &t);
    if (result == OK)
        *bdf = (uint64_t)t.card->domain << 16 | t.card->bus << 8 | t.card->device << 3 | (t.partition & 7);
    return result;
}

static double counted_s(const struct target *t)
{
    double frozen_s = t->card->frozen_at;
    return frozen_s > 0 && t->now_s > frozen_s ? frozen_s : t->now_s;
}

EXPORT status_t amdsmi_get_energy_count(handle_t handle, uint64_t *ticks, float *unit_uj, uint64_t *at_ns)
{
    struct target t;
    status_t result = enter(handle, &t);
    if (result == OK)
        result = t.card->counter_error;
    if (result != OK)
        return result;
    double at_s = counted_s(&t);
    volatile struct sim_source *power = &machine->zone[t.card->zone].power;
    double drawn_j = source_integral(power, at_s) - source_integral(power, t.card->zero_s);
    double factor = t.card->counter_factor > 0 ? t.card->counter_factor : 1.0;
    *ticks = t.card->start_ticks + (uint64_t)(drawn_j * factor * TICKS_PER_J) + (uint64_t)t.card->counter_offset;
    if (t.card->is_second_die)
        *ticks = 0;
    if (t.card->counter_sentinel)
        *ticks = t.card->counter_sentinel;
    *unit_uj = t.card->resolution_uj != 0 ? (float)t.card->resolution_uj : UNIT_UJ;
    *at_ns = (uint64_t)(at_s * 1e9);
    return OK;
}

EXPORT status_t amdsmi_get_power_info(handle_t handle, power_info_t *info)
{
    struct target t;
    status_t result = enter(handle, &t);
    if (result == OK)
        result = t.card->power_error;
    if (result != OK)
        return result;
    memset(info, 0, sizeof *info);
    volatile struct sim_zone *zone = &machine->zone[t.card->zone];
    uint32_t power_w = (uint32_t)(source_mean(&zone->power, t.now_s - zone->window_s, t.now_s) + 0.5);
    uint32_t sentinel = t.card->power_sentinel;
    if (t.card->is_second_die)
        power_w = 0;
    info->average_socket_power = t.card->is_average ? power_w : 0xFFFF;
    info->current_socket_power = t.card->is_average ? 0xFFFF : power_w;
    info->socket_power = power_w;
    if (sentinel)
        info->socket_power = info->average_socket_power = info->current_socket_power = sentinel;
    info->gfx_voltage = 900;
    info->soc_voltage = info->mem_voltage = 0xFFFF;
    info->power_limit = (uint32_t)(t.card->power_limit_w * 1e6); /* microwatts, whatever the header says */
    return OK;
}

EXPORT status_t amdsmi_get_power_cap_info(handle_t handle, uint32_t sensor, power_cap_info_t *info)
{
    struct target t;
    status_t result = enter(handle, &t);
    if (result != OK || sensor != 0 || t.card->is_second_die)
        return result != OK ? result : NOT_SUPPORTED;
    memset(info, 0, sizeof *info);
    info->power_cap = info->default_power_cap = info->max_power_cap = (uint64_t)(t.card->power_limit_w * 1e6);
    return OK;
}

EXPORT status_t amdsmi_get_gpu_activity(handle_t handle, engine_usage_t *usage)
{
    struct target t;
    status_t result = enter(handle, &t);
    if (result == OK)
        result = t.card->activity_error;
    if (result != OK)
        return result;
    memset(usage, 0, sizeof *usage);
    usage->gfx_activity = (uint32_t)t.card->utilization_percent;
    usage->umc_activity = 20;
    usage->mm_activity = 0xFFFF;
    if (t.card->activity_sentinel)
        usage->gfx_activity = t.card->activity_sentinel;
    return OK;
}

EXPORT status_t amdsmi_get_gpu_process_list(handle_t handle, uint32_t *count, proc_info_t *list)
{
    struct target t;
    status_t result = enter(handle, &t);
    if (result == OK)
        result = t.card->process_error;
    if (result != OK)
        return result;
    uint32_t found = 0;
    for (uint32_t i = 0; i < AMD_MAX_PROCESSES && found < *count; i++) {
        volatile struct amd_process *process = &t.card->process[i];
        if (!process->pid || process->partition != t.partition)
            continue;
        proc_info_t *entry = &list[found++];
        memset(entry, 0, sizeof *entry);
        strcpy(entry->name, "python3");
        entry->pid = process->pid;
        entry->mem = entry->memory_usage.vram_mem = process->memory_bytes;
        entry->cu_occupancy = process->compute_units;
    }
    *count = found;
    return OK;
}

EXPORT status_t amdsmi_get_gpu_enumeration_info(handle_t handle, enumeration_info_t *info)
{
    struct target t;
    status_t result = enter(handle, &t);
    if (result != OK)
        return result;
    memset(info, 0, sizeof *info);
    info->drm_render = 0xFFFFFFFF;
    info->hip_id = t.card->hip_id + t.partition;
    strcpy(info->hip_uuid, "GPU-0");
    return OK;
}

EXPORT status_t amdsmi_get_gpu_asic_info(handle_t handle, asic_info_t *info)
{
    struct target t;
    status_t result = enter(handle, &t);
    if (result != OK)
        return result;
    memset(info, 0, sizeof *info);
    strcpy(info->market_name, "AMD Instinct");
    strcpy(info->vendor_name, "Advanced Micro Devices, Inc. [AMD/ATI]");
    strcpy(info->asic_serial, "1");
    info->num_of_compute_units = t.card->compute_units / t.card->partitions;
    return OK;
}
