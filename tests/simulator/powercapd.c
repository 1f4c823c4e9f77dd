/* powercapd CONTROL TREE: keeps the files of a simulated sysfs that show energy or power up to date: the
 * energy_uj of powercap, the channels of hwmon.
 *
 * How a value is written: the kernel prints "123\n"; here the number is followed by newlines up to 16 bytes,
 * so that a shorter value after a wrap leaves no old digits, the first line is the kernel's, and int() and
 * float() of the whole file work. Each update is one pwrite of those 16 bytes at offset 0 into the same inode:
 * whoever keeps the file open sees it (pyRAPL does), the file is never empty, and the copy stays within one
 * aligned 16-byte word of a page (in stress tests none of 10^7 reads during 10^7 writes was torn).
 *
 * It dies with its parent, and ends on SIGTERM. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "machine.h"
#include "profile.h"

#define LINE_BYTES 16 /* 15 digits: more than any real range */

typedef volatile struct sim_control machine_t;

static int files[SIM_MAX_ZONES];

static uint64_t counter_uj(machine_t *machine, uint32_t index, double now_s)
{
    if (machine->zone[index].mirror_of >= 0)
        index = (uint32_t)machine->zone[index].mirror_of;
    volatile struct sim_zone *zone = &machine->zone[index];
    double zero_s = zone->zero_s, reset_s = zone->reset_at, frozen_s = zone->frozen_at;
    uint64_t start_uj = zone->start_uj;
    if (frozen_s > 0 && now_s > frozen_s)
        now_s = frozen_s;
    if (reset_s > zero_s && reset_s <= now_s) {
        zero_s = reset_s;
        start_uj = 0;
    }
    double drawn_j = source_integral(&zone->power, now_s) - source_integral(&zone->power, zero_s);
    int64_t modulus = (int64_t)zone->range_uj + 1;
    int64_t value = ((int64_t)start_uj + (int64_t)floor(drawn_j * 1e6) + zone->offset_uj) % modulus;
    return (uint64_t)(value < 0 ? value + modulus : value);
}

static uint64_t level(machine_t *machine, uint32_t index, double now_s)
{
    volatile struct sim_zone *zone = &machine->zone[index];
    if (zone->frozen_at > 0 && now_s > zone->frozen_at)
        now_s = zone->frozen_at;
    double power_w = source_mean(&zone->power, now_s - zone->window_s, now_s);
    return (uint64_t)(floor(power_w * zone->scale / zone->step + 0.5) * zone->step);
}

/* 0, or an errno. */
static int write_counter(int file, uint64_t value)
{
    char line[LINE_BYTES + 1];
    memset(line, '\n', sizeof line);
    int length = snprintf(line, sizeof line, "%" PRIu64, value);
    line[length] = '\n';
    return pwrite(file, line, LINE_BYTES, 0) == LINE_BYTES ? 0 : errno;
}

static int open_files(machine_t *machine, const char *tree)
{
    char path[PATH_MAX];
    for (uint32_t i = 0; i < machine->zone_count; i++) {
        snprintf(path, sizeof path, "%s/%s", tree, (const char *)(uintptr_t)machine->zone[i].path);
        files[i] = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0400);
        if (files[i] < 0) {
            perror(path);
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: powercapd CONTROL TREE PARENT_PID\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != atoi(argv[3]))
        return 0; /* it died before we asked to die with it */
    signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C is for the command under test; SIGTERM ends us */
    machine_t *machine = machine_open(argv[1], NULL);
    if (!machine || machine->magic != SIM_MAGIC || machine->size != sizeof(struct sim_control)) {
        fprintf(stderr, "powercapd: no machine at %s\n", argv[1]);
        return 1;
    }
    if (open_files(machine, argv[2]) != 0)
        return 1;
    while (machine->magic == SIM_MAGIC) {
        double pass_s = machine_now_s(machine);
        for (uint32_t i = 0; i < machine->zone_count; i++) {
            double now_s = machine_now_s(machine);
            uint64_t value = machine->zone[i].is_level ? level(machine, i, now_s) : counter_uj(machine, i, now_s);
            int error = machine->zone[i].paused ? 0 : write_counter(files[i], value);
            if (error) {
                fprintf(stderr, "powercapd: %s: %s\n", (const char *)(uintptr_t)machine->zone[i].path, strerror(error));
                return 1;
            }
        }
        machine->powercap_now_s = pass_s;
        __atomic_fetch_add(&machine->powercap_passes, 1, __ATOMIC_RELEASE);
        machine_sleep_s(machine->powercap_tick_s);
    }
    return 0;
}
