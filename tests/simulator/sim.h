/* The control file: the whole state of one simulated machine, mapped by the library, by powercapd and by
 * the controlling Python process (layout.py mirrors this file; the sizes are checked on both sides).
 *
 * Little-endian, every field naturally aligned, no locks: each field is written and read on its own, and what
 * must change together (a power profile, the driver's epoch) has two slots and one index that switches them.
 * Times are seconds of CLOCK_BOOTTIME. */
#ifndef SIM_H
#define SIM_H

#include <stdint.h>

#define SIM_MAGIC 0x314d49534e4f4243ULL /* "CBONSIM1" */
#define SIM_VERSION 1u
#define SIM_MAX_GPUS 64
#define SIM_MAX_MIG 7
#define SIM_MAX_PROCESSES 32
#define SIM_MAX_ZONES 64
#define SIM_MAX_CARDS 32
#define SIM_MAX_FUNCTIONS 64 /* one bit each in missing_functions */

enum sim_function {
#define SIM_FUNCTION(name) FN_##name,
#include "functions.inc"
#undef SIM_FUNCTION
    SIM_FUNCTION_COUNT
};

enum sim_shape { SIM_CONSTANT, SIM_SQUARE, SIM_SINE, SIM_RAMP };

/* Parameters by shape: constant (level); square (low, high, period, duty); sine (mean, amplitude, period);
 * ramp (start, end, duration). In force from since_s on, when the integral stood at base. */
struct sim_profile {
    double since_s;
    double base;
    double parameter[4];
    uint32_t shape;
    uint32_t reserved;
};

/* The profile in force and the one before it, which the readings that look back still need. */
struct sim_source {
    uint32_t active;
    uint32_t reserved;
    struct sim_profile slot[2];
};

struct sim_mig {
    char uuid[64];
    char profile[24]; /* "1g.10gb" */
    uint64_t memory_bytes;
    uint32_t present;
    uint32_t gpu_instance_id;
    uint32_t compute_instance_id;
    uint32_t gpu_slices;
    uint32_t compute_slices;
    uint32_t multiprocessors;
};

struct sim_process {
    uint64_t memory_bytes;
    uint32_t pid; /* 0: a free slot */
    uint32_t graphics;
    int32_t mig; /* index of the instance, or -1 */
    uint32_t sm_percent;
    uint32_t memory_percent;
    uint32_t reserved;
};

struct sim_gpu {
    char uuid[64];
    char name[96];
    uint64_t memory_total_bytes;
    uint64_t memory_used_bytes;
    uint64_t counter_start_mj;  /* what the counter says ... */
    double counter_zero_s;      /* ... at this time */
    double counter_refresh_s;   /* 0: at every read */
    double sample_period_s;     /* the driver's buffer gets a sample that often */
    double sensor_window_s;     /* a sample is the mean power of that long before it; 0: the moment's */
    struct sim_source power;    /* watts */
    struct sim_source utilization; /* percent */
    struct sim_source rest;     /* watts of a superchip beside its GPU: CPU and memory */
    uint32_t pci_domain;
    uint32_t pci_bus;
    uint32_t pci_device;
    uint32_t pci_device_id;
    uint32_t architecture;
    uint32_t virtualization;
    int32_t mig_mode;           /* -1: the GPU knows no MIG; 0: off; 1: on */
    uint32_t power_averaged;    /* nvmlDeviceGetPowerUsage is a 1 s average, as from Ampere on except on GA100 */
    uint32_t power_limit_mw;
    uint32_t power_limit_default_mw; /* the largest, too */
    uint32_t power_limit_min_mw;
    uint32_t persistence;
    uint32_t minor_number;           /* N of /dev/nvidiaN */
    uint32_t reserved2;
    struct sim_mig mig[SIM_MAX_MIG];
    struct sim_process process[SIM_MAX_PROCESSES];

    /* Faults: 0 means healthy. */
    int64_t counter_offset_mj;
    double counter_reset_at;
    double slow_s;
    double counter_lag_s;    /* the counter is so far behind */
    double power_loss_ratio; /* power, its samples and fields miss this part of it */
    uint32_t lost;
    uint32_t no_counter;
    uint32_t no_power;
    uint32_t no_power_limit;
    uint32_t no_utilization;
    uint32_t no_processes;
    uint32_t no_permission;
    uint32_t hang;
    uint32_t call_error;
    uint32_t counter_error;
    uint32_t power_error;
    uint32_t fail_next_counter_reads; /* the library counts it down */
    uint32_t limit_locked;
    uint32_t superchip;      /* 1: the counter is the module's; 2: fields tell the scopes apart, too */

    uint64_t counter_reads; /* by any function: the library counts it up */
};

struct sim_zone {
    char path[128]; /* the file that shows it, relative to the tree */
    uint64_t start_uj;
    uint64_t range_uj; /* the counter wraps from here to 0 */
    double zero_s;     /* when the counter said start_uj */
    struct sim_source power;
    int32_t mirror_of; /* this zone repeats that one's counter; -1: its own */
    uint32_t reserved;

    int64_t offset_uj;
    double reset_at;
    double frozen_at;
    uint32_t paused;   /* the controller has replaced the file: leave it alone */
    uint32_t is_level; /* the file shows power, not energy: */
    double window_s;   /* the mean of that long before; 0: the moment's */
    double scale;      /* units for each watt */
    double step;       /* whole multiples of so many units */
};

enum sim_card_kind { SIM_GAUDI = 1, SIM_INTEL, SIM_NPU };

/* A card of a vendor that has a library of its own: Gaudi (libhlml), Intel (libze_loader). */
struct sim_card {
    char name[96];
    char status[32];     /* what the driver says of its state */
    uint64_t start_uj;   /* what the counter says ... */
    double zero_s;       /* ... at this time */
    double refresh_s;    /* the counter is renewed that often; 0: at every read */
    double window_s;     /* power is the mean of that long before; 0: the moment's */
    double rate;         /* the counter counts so much of what is drawn; 1 but for a fault */
    double package_ratio;
    double tile_ratio;
    struct sim_source power; /* watts of the whole card */
    uint32_t kind;
    uint32_t domain;
    uint32_t bus;
    uint32_t device;
    uint32_t function;
    uint32_t module;
    uint32_t limit_mw;
    uint32_t tiles;
    uint32_t packages; /* so many domains of that kind */
    uint32_t tells_card;
    uint32_t tells_tiles;
    uint32_t tells_unknown; /* a domain that is not said to be of any kind */

    /* Faults: 0 means healthy. */
    int64_t offset_uj;
    double reset_at;
    double frozen_at; /* the counter is not renewed from then on */
    double slow_s;
    uint32_t hang;
    uint32_t lost;
    uint32_t hidden;
    uint32_t call_error;
    uint32_t counter_error;
    uint32_t power_error;
    uint32_t no_counter;
    uint32_t no_power;
    uint32_t no_limit;
    uint32_t no_permission;
    uint32_t no_stamp;
    uint32_t card_denied;
    uint32_t card_zero;
    uint32_t old_driver; /* it says of no domain what it is */
    uint32_t sentinel;   /* counter and power say "not available" */
    uint32_t reserved;

    uint64_t calls; /* the library counts them up */
    uint64_t utilization_calls;
};

/* What changes at once when the driver is loaded anew. */
struct sim_epoch {
    double loaded_s;
    uint32_t order[SIM_MAX_GPUS]; /* NVML index -> place in gpu[] */
};

struct sim_control {
    uint64_t magic; /* zeroed when the machine is closed */
    uint32_t version;
    uint32_t size;
    double epoch_s;       /* t0 of the counters' refresh grid */
    double wall_offset_s; /* Unix time minus CLOCK_BOOTTIME */
    double manual_now_s;  /* the simulated time, if the controller owns it; 0: CLOCK_BOOTTIME */
    uint64_t missing_functions;
    uint32_t init_error;
    uint32_t driver_generation; /* its lowest bit chooses the epoch */
    struct sim_epoch epoch[2];
    char driver_version[80];
    char nvml_version[80];
    uint32_t gpu_count;
    uint32_t zone_count;
    double powercap_tick_s;
    double powercap_now_s;    /* the time of powercapd's last complete pass ... */
    uint64_t powercap_passes; /* ... and how many there were */
    struct sim_gpu gpu[SIM_MAX_GPUS];
    struct sim_zone zone[SIM_MAX_ZONES];
    uint64_t calls[SIM_MAX_GPUS + 1][SIM_MAX_FUNCTIONS]; /* the last row: calls on no GPU */
    uint32_t card_count;
    uint32_t hlml_error;   /* what libhlml answers to everything */
    uint32_t sysman_error; /* what zesInit answers */
    uint32_t reserved_card;
    struct sim_card card[SIM_MAX_CARDS];
};

#endif
