/* What a device is: lookups, names, MIG instances, memory, and the processes on it. */
#include <stdio.h>
#include <string.h>

#include "nvml.h"

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
    machine_t *machine;
    nvmlReturn_t result = enter(FN_nvmlDeviceGetCount_v2, &machine);
    if (result == OK)
        *count = machine->gpu_count;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *handle)
{
    machine_t *machine;
    nvmlReturn_t result = enter(FN_nvmlDeviceGetHandleByIndex_v2, &machine);
    if (result != OK)
        return result;
    if (!handle || index >= machine->gpu_count)
        return INVALID_ARGUMENT;
    return find_handle(machine, current_epoch(machine)->order[index], -1, handle);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *handle)
{
    machine_t *machine;
    nvmlReturn_t result = enter(FN_nvmlDeviceGetHandleByUUID, &machine);
    if (result != OK)
        return result;
    if (!uuid || !handle)
        return INVALID_ARGUMENT;
    for (unsigned int place = 0; place < machine->gpu_count; place++) {
        gpu_t *gpu = &machine->gpu[place];
        if (strcmp(uuid, (const char *)(uintptr_t)gpu->uuid) == 0) {
            if (gpu->call_error) /* off the bus or out of the container: no such GPU any more */
                return NOT_FOUND;
            return find_handle(machine, place, -1, handle);
        }
        for (int mig = 0; mig < SIM_MAX_MIG; mig++)
            if (gpu->mig[mig].present && strcmp(uuid, (const char *)(uintptr_t)gpu->mig[mig].uuid) == 0)
                return find_handle(machine, place, mig, handle);
    }
    return NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t handle, char *name, unsigned int length)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetName, handle, &target);
    if (result != OK)
        return result;
    char text[160];
    strcpy(text, (const char *)(uintptr_t)target.gpu->name);
    if (target.mig >= 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), " MIG %s",
                 (const char *)(uintptr_t)target.gpu->mig[target.mig].profile);
    return give_text(text, name, length);
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t handle, char *uuid, unsigned int length)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetUUID, handle, &target);
    if (result != OK)
        return result;
    return give_text(target.mig < 0 ? target.gpu->uuid : target.gpu->mig[target.mig].uuid, uuid, length);
}

/* Of a MIG instance: its index within the GPU. */
EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t handle, unsigned int *index)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetIndex, handle, &target);
    if (result != OK)
        return result;
    if (target.mig >= 0) {
        *index = (unsigned int)target.mig;
        return OK;
    }
    for (unsigned int i = 0; i < target.machine->gpu_count; i++)
        if (current_epoch(target.machine)->order[i] == target.place)
            *index = i;
    return OK;
}

/* N of /dev/nvidiaN; a MIG instance has none. */
EXPORT nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t handle, unsigned int *minor)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetMinorNumber, handle, &target);
    if (result != OK)
        return result;
    if (target.mig >= 0)
        return NOT_SUPPORTED;
    *minor = target.gpu->minor_number;
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t handle, nvmlPciInfo_t *pci)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetPciInfo_v3, handle, &target);
    if (result != OK)
        return result;
    memset(pci, 0, sizeof *pci);
    pci->domain = target.gpu->pci_domain;
    pci->bus = target.gpu->pci_bus;
    pci->device = target.gpu->pci_device;
    pci->pciDeviceId = target.gpu->pci_device_id;
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", pci->domain, pci->bus, pci->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xffff,
             pci->bus & 0xff, pci->device & 0xff);
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t handle, unsigned int *architecture)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetArchitecture, handle, &target);
    if (result == OK)
        *architecture = target.gpu->architecture;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t handle, unsigned int *mode)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetVirtualizationMode, handle, &target);
    if (result == OK)
        *mode = target.gpu->virtualization;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t handle, unsigned int *mode)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetPersistenceMode, handle, &target);
    if (result == OK)
        *mode = target.gpu->persistence;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t handle, nvmlMemory_t *memory)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetMemoryInfo, handle, &target);
    if (result != OK)
        return result;
    memory->total = target.mig < 0 ? target.gpu->memory_total_bytes : target.gpu->mig[target.mig].memory_bytes;
    memory->used = target.mig < 0 ? target.gpu->memory_used_bytes : 0;
    memory->free = memory->total - memory->used;
    return OK;
}

/* NVLink-C2C joins a superchip's GPU to its CPU. */
EXPORT nvmlReturn_t nvmlDeviceGetC2cModeInfoV(nvmlDevice_t handle, nvmlC2cModeInfo_v1_t *info)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetC2cModeInfoV, handle, &target);
    if (result == OK)
        info->isC2cEnabled = target.gpu->superchip != 0;
    return result;
}

/* ---- MIG ---- */

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t handle, unsigned int *current, unsigned int *pending)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetMigMode, handle, &target);
    if (result != OK)
        return result;
    if (target.gpu->mig_mode < 0)
        return NOT_SUPPORTED;
    *current = *pending = (unsigned int)target.gpu->mig_mode;
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t handle, unsigned int *count)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetMaxMigDeviceCount, handle, &target);
    if (result == OK)
        *count = target.gpu->mig_mode == 1 ? SIM_MAX_MIG : 0;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t handle, unsigned int index,
                                                        nvmlDevice_t *instance)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetMigDeviceHandleByIndex, handle, &target);
    if (result != OK)
        return result;
    if (target.gpu->mig_mode != 1)
        return NOT_SUPPORTED;
    if (index >= SIM_MAX_MIG || target.mig >= 0)
        return INVALID_ARGUMENT;
    if (!target.gpu->mig[index].present)
        return NOT_FOUND;
    *instance = make_handle(target.place, (int)index);
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t handle, nvmlDevice_t *parent)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle, &target);
    if (result != OK)
        return result;
    if (target.mig < 0)
        return INVALID_ARGUMENT;
    *parent = make_handle(target.place, -1);
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t handle, unsigned int *is_mig)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceIsMigDeviceHandle, handle, &target);
    if (result == OK)
        *is_mig = target.mig >= 0;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t handle, unsigned int *id)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetGpuInstanceId, handle, &target);
    if (result != OK)
        return result;
    if (target.mig < 0)
        return INVALID_ARGUMENT;
    *id = target.gpu->mig[target.mig].gpu_instance_id;
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t handle, unsigned int *id)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetComputeInstanceId, handle, &target);
    if (result != OK)
        return result;
    if (target.mig < 0)
        return INVALID_ARGUMENT;
    *id = target.gpu->mig[target.mig].compute_instance_id;
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t handle, nvmlDeviceAttributes_t *attributes)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetAttributes_v2, handle, &target);
    if (result != OK)
        return result;
    if (target.mig < 0)
        return NOT_SUPPORTED;
    const volatile struct sim_mig *mig = &target.gpu->mig[target.mig];
    memset(attributes, 0, sizeof *attributes);
    attributes->multiprocessorCount = mig->multiprocessors;
    attributes->gpuInstanceSliceCount = mig->gpu_slices;
    attributes->computeInstanceSliceCount = mig->compute_slices;
    attributes->memorySizeMB = mig->memory_bytes >> 20;
    return OK;
}

/* ---- processes ---- */

#define NO_INSTANCE 0xffffffffu

static nvmlReturn_t running_processes(enum sim_function function, nvmlDevice_t handle, unsigned int graphics,
                                      unsigned int *count, nvmlProcessInfo_t *infos)
{
    struct target target;
    nvmlReturn_t result = enter_device(function, handle, &target);
    if (result != OK)
        return result;
    if (target.gpu->no_processes)
        return NOT_SUPPORTED;
    unsigned int room = infos ? *count : 0, found = 0;
    for (int i = 0; i < SIM_MAX_PROCESSES; i++) {
        struct sim_process process = target.gpu->process[i];
        if (!process.pid || process.graphics != graphics || (target.mig >= 0 && process.mig != target.mig))
            continue;
        if (found < room) {
            infos[found].pid = process.pid;
            infos[found].usedGpuMemory = process.memory_bytes;
            infos[found].gpuInstanceId = infos[found].computeInstanceId = NO_INSTANCE;
            if (process.mig >= 0) {
                infos[found].gpuInstanceId = target.gpu->mig[process.mig].gpu_instance_id;
                infos[found].computeInstanceId = target.gpu->mig[process.mig].compute_instance_id;
            }
        }
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t handle, unsigned int *count,
                                                            nvmlProcessInfo_t *infos)
{
    return running_processes(FN_nvmlDeviceGetComputeRunningProcesses_v3, handle, 0, count, infos);
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t handle, unsigned int *count,
                                                            nvmlProcessInfo_v2_t *infos)
{
    return running_processes(FN_nvmlDeviceGetComputeRunningProcesses_v2, handle, 0, count,
                             (nvmlProcessInfo_t *)infos);
}

EXPORT nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t handle, unsigned int *count,
                                                             nvmlProcessInfo_t *infos)
{
    return running_processes(FN_nvmlDeviceGetGraphicsRunningProcesses_v3, handle, 1, count, infos);
}
