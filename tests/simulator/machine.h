/* Opening the control file and telling the machine's time; used by the library and by powercapd. */
#ifndef MACHINE_H
#define MACHINE_H

#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

/* Maps the file at `path`, over the mapping `old` if that is not NULL; NULL if there is no such machine. */
static inline volatile struct sim_control *machine_open(const char *path, volatile struct sim_control *old)
{
    struct stat status;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    void *map = MAP_FAILED;
    if (fstat(fd, &status) == 0 && status.st_size >= (off_t)sizeof(struct sim_control))
        map = mmap((void *)(uintptr_t)old, sizeof(struct sim_control), PROT_READ | PROT_WRITE,
                   MAP_SHARED | (old ? MAP_FIXED : 0), fd, 0);
    close(fd);
    return map == MAP_FAILED ? NULL : map;
}

static inline double machine_now_s(const volatile struct sim_control *control)
{
    struct timespec now;
    double manual_s = control->manual_now_s;
    if (manual_s > 0)
        return manual_s;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void machine_sleep_s(double seconds)
{
    struct timespec span = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&span, NULL);
}

#endif
