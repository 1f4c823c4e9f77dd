/* What the simulated libhlml.so and libze_loader.so.1 share: finding the machine, time, energy of a card. */
#ifndef CARDS_H
#define CARDS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "profile.h"

#define EXPORT __attribute__((visibility("default")))

typedef volatile struct sim_control machine_t;
typedef volatile struct sim_card card_t;

static machine_t *attached;
static char attached_path[4096];
static unsigned int generation; /* of the driver at the last initialisation */

/* Point this process at another machine's control file; needs another initialisation. */
EXPORT void sim_attach(const char *path)
{
    strncpy(attached_path, path, sizeof attached_path - 1);
    generation = ~0u;
}

/* The machine, NULL without one. */
static machine_t *attach(void)
{
    const char *path = attached_path[0] ? attached_path : getenv("CARBONMON_SIM_CONTROL");
    machine_t *machine = path ? machine_open(path, attached) : NULL;
    if (machine)
        attached = machine;
    if (!machine || machine->magic != SIM_MAGIC || machine->size != sizeof(struct sim_control))
        return NULL;
    generation = machine->driver_generation;
    return machine;
}

static inline int is_here(void)
{
    return attached && attached->magic == SIM_MAGIC && attached->driver_generation == generation;
}

/* Waits while it hangs, and as long as a slow card takes. */
static inline void delay(card_t *card)
{
    __atomic_fetch_add(&card->calls, 1, __ATOMIC_RELAXED);
    while (card->hang && attached->magic == SIM_MAGIC)
        machine_sleep_s(0.002);
    if (card->slow_s > 0)
        machine_sleep_s(card->slow_s);
}

/* When the counter was renewed last. */
static inline double renewed_s(card_t *card)
{
    double now_s = machine_now_s(attached), epoch_s = attached->epoch_s;
    if (card->frozen_at > 0 && now_s > card->frozen_at)
        now_s = card->frozen_at;
    if (card->refresh_s <= 0)
        return now_s;
    return epoch_s + floor((now_s - epoch_s) / card->refresh_s) * card->refresh_s;
}

/* µJ that the counter of the whole card shows. */
static inline double counter_uj(card_t *card)
{
    double loaded_s = attached->epoch[attached->driver_generation & 1].loaded_s;
    double zero_s = card->zero_s, start_uj = (double)card->start_uj, end_s = renewed_s(card);
    if (loaded_s > zero_s) {
        zero_s = loaded_s;
        start_uj = 0;
    }
    if (card->reset_at > zero_s && card->reset_at <= end_s) {
        zero_s = card->reset_at;
        start_uj = 0;
    }
    if (end_s < zero_s)
        end_s = zero_s;
    double drawn_j = source_integral(&card->power, end_s) - source_integral(&card->power, zero_s);
    return start_uj + drawn_j * card->rate * 1e6 + (double)card->offset_uj;
}

static inline uint64_t to_counter(double value)
{
    return value > 0 ? (uint64_t)value : 0;
}

#endif
