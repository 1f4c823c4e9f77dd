/* What a device reads: energy, power, the driver's sample buffers, utilisation. */
#include <math.h>

#include "nvml.h"
#include "profile.h"

#define BUFFER_DEPTH 119 /* samples that the driver keeps */
#define AVERAGE_S 1.0    /* the averaged power reading is the mean of the last second */

/* The last point of a grid of that period at or before now. */
static double last_tick_s(const struct target *target, double period_s)
{
    double epoch_s = target->machine->epoch_s;
    return period_s > 0 ? epoch_s + floor((target->now_s - epoch_s) / period_s) * period_s : target->now_s;
}

/* Takes one of the failures that the controller has ordered, if any is left. */
static int take_failure(gpu_t *gpu)
{
    uint32_t left = gpu->fail_next_counter_reads;
    while (left)
        if (__atomic_compare_exchange_n(&gpu->fail_next_counter_reads, &left, left - 1, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return 1;
    return 0;
}

/* J of a scope until that time: a module has the GPU and the rest of the superchip. */
static double scope_integral(const volatile struct sim_gpu *gpu, unsigned int scope, double time_s)
{
    double rest_j = scope == SCOPE_MODULE ? source_integral(&gpu->rest, time_s) : 0;
    return source_integral(&gpu->power, time_s) + rest_j;
}

static nvmlReturn_t read_counter(const struct target *target, unsigned int scope, unsigned long long *energy_mj)
{
    gpu_t *gpu = target->gpu;
    __atomic_fetch_add(&gpu->counter_reads, 1, __ATOMIC_RELAXED);
    if (gpu->no_counter)
        return NOT_SUPPORTED;
    if (gpu->counter_error)
        return gpu->counter_error;
    if (take_failure(gpu))
        return UNKNOWN;
    double zero_s = gpu->counter_zero_s, reset_s = gpu->counter_reset_at;
    double start_mj = (double)gpu->counter_start_mj;
    if (target->loaded_s > zero_s) {
        zero_s = target->loaded_s;
        start_mj = 0;
    }
    if (reset_s > zero_s && reset_s <= target->now_s) {
        zero_s = reset_s;
        start_mj = 0;
    }
    double end_s = fmax(last_tick_s(target, gpu->counter_refresh_s) - gpu->counter_lag_s, zero_s);
    double drawn_j = scope_integral(gpu, scope, end_s) - scope_integral(gpu, scope, zero_s);
    double counter_mj = start_mj + drawn_j * 1e3 + (double)gpu->counter_offset_mj;
    *energy_mj = counter_mj > 0 ? (unsigned long long)counter_mj : 0;
    return OK;
}

static nvmlReturn_t read_power(const struct target *target, unsigned int scope, int averaged,
                               unsigned int *power_mw)
{
    gpu_t *gpu = target->gpu;
    if (gpu->no_power)
        return NOT_SUPPORTED;
    if (gpu->power_error)
        return gpu->power_error;
    double start_s = averaged ? target->now_s - AVERAGE_S : target->now_s;
    double mean_w = source_mean(&gpu->power, start_s, target->now_s) * (1 - gpu->power_loss_ratio);
    if (scope == SCOPE_MODULE)
        mean_w += source_mean(&gpu->rest, start_s, target->now_s);
    *power_mw = (unsigned int)(mean_w * 1e3 + 0.5);
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t handle, unsigned long long *energy_mj)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetTotalEnergyConsumption, handle, &target);
    if (result != OK)
        return result;
    return read_counter(&target, target.gpu->superchip ? SCOPE_MODULE : SCOPE_GPU, energy_mj);
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t handle, unsigned int *power_mw)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetPowerUsage, handle, &target);
    return result != OK ? result : read_power(&target, SCOPE_GPU, target.gpu->power_averaged != 0, power_mw);
}

/* Entry of what concerns limits; a board without them supports none of it. */
static nvmlReturn_t enter_limit(enum sim_function function, nvmlDevice_t handle, struct target *target)
{
    nvmlReturn_t result = enter_device(function, handle, target);
    return result == OK && target->gpu->no_power_limit ? NOT_SUPPORTED : result;
}

EXPORT nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t handle, unsigned int *limit_mw)
{
    struct target target;
    nvmlReturn_t result = enter_limit(FN_nvmlDeviceGetEnforcedPowerLimit, handle, &target);
    if (result == OK)
        *limit_mw = target.gpu->power_limit_mw;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t handle, unsigned int *limit_mw)
{
    struct target target;
    nvmlReturn_t result = enter_limit(FN_nvmlDeviceGetPowerManagementLimit, handle, &target);
    if (result == OK)
        *limit_mw = target.gpu->power_limit_mw;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t handle, unsigned int *limit_mw)
{
    struct target target;
    nvmlReturn_t result = enter_limit(FN_nvmlDeviceGetPowerManagementDefaultLimit, handle, &target);
    if (result == OK)
        *limit_mw = target.gpu->power_limit_default_mw;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t handle, unsigned int *min_mw,
                                                                 unsigned int *max_mw)
{
    struct target target;
    nvmlReturn_t result = enter_limit(FN_nvmlDeviceGetPowerManagementLimitConstraints, handle, &target);
    if (result == OK) {
        *min_mw = target.gpu->power_limit_min_mw;
        *max_mw = target.gpu->power_limit_default_mw;
    }
    return result;
}

/* Changes what the limits say, never what the GPU draws: that is its profile's. */
EXPORT nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t handle, unsigned int limit_mw)
{
    struct target target;
    nvmlReturn_t result = enter_limit(FN_nvmlDeviceSetPowerManagementLimit, handle, &target);
    if (result != OK)
        return result;
    if (target.gpu->limit_locked)
        return NO_PERMISSION;
    if (limit_mw < target.gpu->power_limit_min_mw || limit_mw > target.gpu->power_limit_default_mw)
        return INVALID_ARGUMENT;
    target.gpu->power_limit_mw = limit_mw;
    return OK;
}

/* Each entry has its own result; the call itself succeeds. */
EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t handle, int count, nvmlFieldValue_t *values)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetFieldValues, handle, &target);
    if (result != OK)
        return result;
    if (count <= 0 || !values)
        return INVALID_ARGUMENT;
    for (nvmlFieldValue_t *entry = values; entry < values + count; entry++) {
        entry->timestamp = (long long)wall_us(target.machine, target.now_s);
        entry->latencyUsec = 0;
        entry->value.ullVal = 0;
        entry->valueType = VALUE_UNSIGNED_INT;
        entry->nvmlReturn = NOT_SUPPORTED;
        unsigned int scope = entry->scopeId, superchip = target.gpu->superchip;
        if (scope > SCOPE_MODULE || (scope == SCOPE_MODULE && superchip < 2))
            continue; /* no memory power here, and a module's of new superchips only */
        if (entry->fieldId == FIELD_TOTAL_ENERGY || (entry->fieldId == FIELD_ENERGY && superchip == 2)) {
            if (entry->fieldId == FIELD_TOTAL_ENERGY)
                scope = superchip ? SCOPE_MODULE : SCOPE_GPU;
            entry->valueType = VALUE_UNSIGNED_LONG_LONG;
            entry->nvmlReturn = read_counter(&target, scope, &entry->value.ullVal);
        } else if (entry->fieldId == FIELD_POWER_AVERAGE || entry->fieldId == FIELD_POWER_INSTANT) {
            int averaged = entry->fieldId == FIELD_POWER_AVERAGE;
            entry->nvmlReturn = read_power(&target, scope, averaged, &entry->value.uiVal);
        }
    }
    return OK;
}

/* The size query (no array) says how deep the buffer is, whatever is new in it. With less room than there is
 * new, the oldest come first, so that a caller who goes on from the last one loses none. */
EXPORT nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t handle, unsigned int type, unsigned long long last_seen_us,
                                         unsigned int *value_type, unsigned int *count, nvmlSample_t *samples)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetSamples, handle, &target);
    if (result != OK)
        return result;
    gpu_t *gpu = target.gpu;
    if (type == TOTAL_POWER_SAMPLES) {
        if (gpu->no_power)
            return NOT_SUPPORTED;
        if (gpu->power_error)
            return gpu->power_error;
    } else if (type != GPU_UTILIZATION_SAMPLES || gpu->no_utilization || gpu->mig_mode == 1) {
        return NOT_SUPPORTED;
    }
    *value_type = VALUE_UNSIGNED_INT;
    if (!samples) {
        *count = BUFFER_DEPTH;
        return OK;
    }
    double newest_s = last_tick_s(&target, gpu->sample_period_s);
    unsigned int found = 0;
    for (int age = BUFFER_DEPTH - 1; age >= 0 && found < *count; age--) {
        double time_s = newest_s - age * gpu->sample_period_s;
        unsigned long long time_us = wall_us(target.machine, time_s);
        if (time_us <= last_seen_us || time_s <= target.loaded_s)
            continue;
        double value = type == TOTAL_POWER_SAMPLES
                           ? source_mean(&gpu->power, time_s - gpu->sensor_window_s, time_s) * 1e3 *
                                 (1 - gpu->power_loss_ratio)
                           : source_value(&gpu->utilization, time_s);
        samples[found].timeStamp = time_us;
        samples[found].sampleValue.ullVal = (unsigned long long)(value + 0.5);
        found++;
    }
    *count = found;
    return found ? OK : NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t handle, nvmlUtilization_t *utilization)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetUtilizationRates, handle, &target);
    if (result != OK)
        return result;
    gpu_t *gpu = target.gpu;
    if (gpu->no_utilization || gpu->mig_mode == 1)
        return NOT_SUPPORTED;
    double mean = source_mean(&gpu->utilization, target.now_s - AVERAGE_S, target.now_s);
    utilization->gpu = (unsigned int)(mean + 0.5);
    utilization->memory = utilization->gpu / 2;
    return OK;
}

/* One sample for each active process that is newer than the one last seen; nobody active is NOT_FOUND. */
EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t handle, nvmlProcessUtilizationSample_t *samples,
                                                    unsigned int *count, unsigned long long last_seen_us)
{
    struct target target;
    nvmlReturn_t result = enter_device(FN_nvmlDeviceGetProcessUtilization, handle, &target);
    if (result != OK)
        return result;
    gpu_t *gpu = target.gpu;
    if (gpu->no_utilization || gpu->mig_mode == 1)
        return NOT_SUPPORTED;
    unsigned long long time_us = wall_us(target.machine, last_tick_s(&target, gpu->sample_period_s));
    unsigned int room = samples ? *count : 0, found = 0;
    for (int i = 0; i < SIM_MAX_PROCESSES; i++) {
        struct sim_process process = gpu->process[i];
        if (!process.pid || (!process.sm_percent && !process.memory_percent) || time_us <= last_seen_us)
            continue;
        if (found < room)
            samples[found] = (nvmlProcessUtilizationSample_t){
                process.pid, time_us, process.sm_percent, process.memory_percent, 0, 0};
        found++;
    }
    *count = found;
    if (!found)
        return NOT_FOUND;
    return found > room ? INSUFFICIENT_SIZE : OK;
}

/* For the test that C and Python compute the same. */
EXPORT double sim_shape_power(uint32_t shape, const double *parameter, double t)
{
    return shape_power(shape, parameter, t);
}

EXPORT double sim_shape_integral(uint32_t shape, const double *parameter, double t)
{
    return shape_integral(shape, parameter, t);
}
