/* Compiled by a test with VENDOR_NVML_H, the path of the vendor's own nvml.h: what the simulated library takes
 * for NVML's binary interface is held against it. Nothing of this is ever run. */
#include <stddef.h>

#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include VENDOR_NVML_H

/* The simulator's own types, under other names. */
#define nvmlReturn_t sim_Return
#define nvmlDevice_t sim_Device
#define nvmlValue_t sim_Value
#define nvmlFieldValue_t sim_FieldValue
#define nvmlSample_t sim_Sample
#define nvmlProcessInfo_t sim_ProcessInfo
#define nvmlProcessInfo_v2_t sim_ProcessInfoV2
#define nvmlProcessUtilizationSample_t sim_ProcessUtilizationSample
#define nvmlUtilization_t sim_Utilization
#define nvmlC2cModeInfo_v1_t sim_C2cModeInfo
#define nvmlMemory_t sim_Memory
#define nvmlPciInfo_t sim_PciInfo
#define nvmlDeviceAttributes_t sim_DeviceAttributes
#include "nvml_types.h"
#undef nvmlReturn_t
#undef nvmlDevice_t
#undef nvmlValue_t
#undef nvmlFieldValue_t
#undef nvmlSample_t
#undef nvmlProcessInfo_t
#undef nvmlProcessInfo_v2_t
#undef nvmlProcessUtilizationSample_t
#undef nvmlUtilization_t
#undef nvmlC2cModeInfo_v1_t
#undef nvmlMemory_t
#undef nvmlPciInfo_t
#undef nvmlDeviceAttributes_t

#include "nvml_codes.h"

#define SIZE(mine, theirs) _Static_assert(sizeof(mine) == sizeof(theirs), "size of " #theirs)
#define MEMBER(mine, theirs, name)                                                                            \
    _Static_assert(offsetof(mine, name) == offsetof(theirs, name), "offset of " #name " in " #theirs);          \
    _Static_assert(sizeof(((mine *)0)->name) == sizeof(((theirs *)0)->name), "size of " #name " in " #theirs)
#define VALUE(mine, theirs) _Static_assert((int)(mine) == (int)(theirs), #theirs)

SIZE(sim_Return, nvmlReturn_t);
SIZE(sim_Device, nvmlDevice_t);

SIZE(sim_Value, nvmlValue_t);
MEMBER(sim_Value, nvmlValue_t, dVal);
MEMBER(sim_Value, nvmlValue_t, uiVal);
MEMBER(sim_Value, nvmlValue_t, ullVal);

SIZE(sim_FieldValue, nvmlFieldValue_t);
MEMBER(sim_FieldValue, nvmlFieldValue_t, fieldId);
MEMBER(sim_FieldValue, nvmlFieldValue_t, scopeId);
MEMBER(sim_FieldValue, nvmlFieldValue_t, timestamp);
MEMBER(sim_FieldValue, nvmlFieldValue_t, latencyUsec);
MEMBER(sim_FieldValue, nvmlFieldValue_t, valueType);
MEMBER(sim_FieldValue, nvmlFieldValue_t, nvmlReturn);
MEMBER(sim_FieldValue, nvmlFieldValue_t, value);

SIZE(sim_Sample, nvmlSample_t);
MEMBER(sim_Sample, nvmlSample_t, timeStamp);
MEMBER(sim_Sample, nvmlSample_t, sampleValue);

SIZE(sim_ProcessInfo, nvmlProcessInfo_t);
MEMBER(sim_ProcessInfo, nvmlProcessInfo_t, pid);
MEMBER(sim_ProcessInfo, nvmlProcessInfo_t, usedGpuMemory);
MEMBER(sim_ProcessInfo, nvmlProcessInfo_t, gpuInstanceId);
MEMBER(sim_ProcessInfo, nvmlProcessInfo_t, computeInstanceId);

SIZE(sim_ProcessInfoV2, nvmlProcessInfo_v2_t);
MEMBER(sim_ProcessInfoV2, nvmlProcessInfo_v2_t, pid);
MEMBER(sim_ProcessInfoV2, nvmlProcessInfo_v2_t, usedGpuMemory);
MEMBER(sim_ProcessInfoV2, nvmlProcessInfo_v2_t, gpuInstanceId);
MEMBER(sim_ProcessInfoV2, nvmlProcessInfo_v2_t, computeInstanceId);

SIZE(sim_ProcessUtilizationSample, nvmlProcessUtilizationSample_t);
MEMBER(sim_ProcessUtilizationSample, nvmlProcessUtilizationSample_t, pid);
MEMBER(sim_ProcessUtilizationSample, nvmlProcessUtilizationSample_t, timeStamp);
MEMBER(sim_ProcessUtilizationSample, nvmlProcessUtilizationSample_t, smUtil);
MEMBER(sim_ProcessUtilizationSample, nvmlProcessUtilizationSample_t, memUtil);
MEMBER(sim_ProcessUtilizationSample, nvmlProcessUtilizationSample_t, encUtil);
MEMBER(sim_ProcessUtilizationSample, nvmlProcessUtilizationSample_t, decUtil);

SIZE(sim_Utilization, nvmlUtilization_t);
MEMBER(sim_Utilization, nvmlUtilization_t, gpu);
MEMBER(sim_Utilization, nvmlUtilization_t, memory);

SIZE(sim_C2cModeInfo, nvmlC2cModeInfo_v1_t);
MEMBER(sim_C2cModeInfo, nvmlC2cModeInfo_v1_t, isC2cEnabled);

SIZE(sim_Memory, nvmlMemory_t);
MEMBER(sim_Memory, nvmlMemory_t, total);
MEMBER(sim_Memory, nvmlMemory_t, free);
MEMBER(sim_Memory, nvmlMemory_t, used);

SIZE(sim_PciInfo, nvmlPciInfo_t);
MEMBER(sim_PciInfo, nvmlPciInfo_t, busIdLegacy);
MEMBER(sim_PciInfo, nvmlPciInfo_t, domain);
MEMBER(sim_PciInfo, nvmlPciInfo_t, bus);
MEMBER(sim_PciInfo, nvmlPciInfo_t, device);
MEMBER(sim_PciInfo, nvmlPciInfo_t, pciDeviceId);
MEMBER(sim_PciInfo, nvmlPciInfo_t, pciSubSystemId);
MEMBER(sim_PciInfo, nvmlPciInfo_t, busId);

SIZE(sim_DeviceAttributes, nvmlDeviceAttributes_t);
MEMBER(sim_DeviceAttributes, nvmlDeviceAttributes_t, multiprocessorCount);
MEMBER(sim_DeviceAttributes, nvmlDeviceAttributes_t, sharedCopyEngineCount);
MEMBER(sim_DeviceAttributes, nvmlDeviceAttributes_t, sharedDecoderCount);
MEMBER(sim_DeviceAttributes, nvmlDeviceAttributes_t, sharedEncoderCount);
MEMBER(sim_DeviceAttributes, nvmlDeviceAttributes_t, sharedJpegCount);
MEMBER(sim_DeviceAttributes, nvmlDeviceAttributes_t, sharedOfaCount);
MEMBER(sim_DeviceAttributes, nvmlDeviceAttributes_t, gpuInstanceSliceCount);
MEMBER(sim_DeviceAttributes, nvmlDeviceAttributes_t, computeInstanceSliceCount);
MEMBER(sim_DeviceAttributes, nvmlDeviceAttributes_t, memorySizeMB);

VALUE(OK, NVML_SUCCESS);
VALUE(UNINITIALIZED, NVML_ERROR_UNINITIALIZED);
VALUE(INVALID_ARGUMENT, NVML_ERROR_INVALID_ARGUMENT);
VALUE(NOT_SUPPORTED, NVML_ERROR_NOT_SUPPORTED);
VALUE(NO_PERMISSION, NVML_ERROR_NO_PERMISSION);
VALUE(NOT_FOUND, NVML_ERROR_NOT_FOUND);
VALUE(INSUFFICIENT_SIZE, NVML_ERROR_INSUFFICIENT_SIZE);
VALUE(DRIVER_NOT_LOADED, NVML_ERROR_DRIVER_NOT_LOADED);
VALUE(FUNCTION_NOT_FOUND, NVML_ERROR_FUNCTION_NOT_FOUND);
VALUE(GPU_IS_LOST, NVML_ERROR_GPU_IS_LOST);
VALUE(LIB_RM_VERSION_MISMATCH, NVML_ERROR_LIB_RM_VERSION_MISMATCH);
VALUE(UNKNOWN, NVML_ERROR_UNKNOWN);
VALUE(VALUE_UNSIGNED_INT, NVML_VALUE_TYPE_UNSIGNED_INT);
VALUE(VALUE_UNSIGNED_LONG_LONG, NVML_VALUE_TYPE_UNSIGNED_LONG_LONG);
VALUE(FIELD_TOTAL_ENERGY, NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION);
VALUE(FIELD_POWER_AVERAGE, NVML_FI_DEV_POWER_AVERAGE);
VALUE(FIELD_POWER_INSTANT, NVML_FI_DEV_POWER_INSTANT);
VALUE(FIELD_ENERGY, NVML_FI_DEV_ENERGY);
VALUE(SCOPE_GPU, NVML_POWER_SCOPE_GPU);
VALUE(SCOPE_MODULE, NVML_POWER_SCOPE_MODULE);
VALUE(TOTAL_POWER_SAMPLES, NVML_TOTAL_POWER_SAMPLES);
VALUE(GPU_UTILIZATION_SAMPLES, NVML_GPU_UTILIZATION_SAMPLES);

/* The names that the library is to export; whether their types are the vendor's, the library's own sources show
 * when they are compiled with VENDOR_NVML_H. */
const void *const declared[] = {
#define SIM_FUNCTION(name) (const void *)name,
#include "functions.inc"
#undef SIM_FUNCTION
};
