/* The second control file: AMD's library and its cards. The power of a card is that of its hwmon channel, in the
 * machine's own control file (sim.h). rocm.py mirrors this file; the sizes are checked on both sides. */
#ifndef SIM_AMDSMI_H
#define SIM_AMDSMI_H

#include <stdint.h>

#define AMD_MAGIC 0x31534d41424e4f43ULL /* "CONBAMS1" */
#define AMD_MAX_CARDS 32
#define AMD_MAX_PROCESSES 16

struct amd_process {
    uint64_t memory_bytes;
    uint32_t pid; /* 0: a free slot */
    uint32_t partition;
    uint32_t compute_units; /* occupied now */
    uint32_t reserved;
};

struct amd_card {
    uint32_t domain;
    uint32_t bus;
    uint32_t device;
    int32_t zone; /* its power: index in the machine's zones */
    uint32_t partitions;
    uint32_t hip_id; /* of its first partition */
    uint32_t is_second_die; /* shows no power and no energy */
    uint32_t is_average; /* average_socket_power, else current_socket_power */
    uint32_t compute_units; /* of all partitions */
    uint32_t reserved;
    double power_limit_w;
    double utilization_percent;
    double zero_s;        /* when the counter said start_ticks */
    uint64_t start_ticks; /* of 2^-16 J */
    struct amd_process process[AMD_MAX_PROCESSES];

    /* Faults: 0 means healthy. */
    double counter_factor;   /* the counter grows so many times as fast */
    double resolution_uj;    /* what the library says instead of 15.3 */
    double frozen_at;        /* the counter and its time stand still from then on */
    double slow_s;
    int64_t counter_offset;  /* ticks */
    uint64_t counter_sentinel; /* the counter is this, whatever was drawn */
    uint32_t power_sentinel; /* every power is this */
    uint32_t activity_sentinel;
    uint32_t call_error;     /* every call on it */
    uint32_t counter_error;
    uint32_t power_error;
    uint32_t activity_error;
    uint32_t process_error;
    uint32_t hang;
};

struct amd_control {
    uint64_t magic; /* zeroed when the library's machine is closed */
    uint32_t size;
    uint32_t card_count;
    uint32_t order[AMD_MAX_CARDS]; /* place in the library's list -> place in card[] */
    uint32_t version[3];
    uint32_t has_year; /* the version's struct of ROCm 6.3 and older */
    uint32_t init_error;
    uint32_t shut_downs; /* the library counts them */
    uint32_t is_away; /* somebody else's shutdown: until amdsmi_init */
    uint32_t calls;
    struct amd_card card[AMD_MAX_CARDS];
};

#endif
