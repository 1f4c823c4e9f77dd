/* The simulated libze_loader.so.1: the calls of Level Zero Sysman that tell cards and their energy.
 *
 * A card has one root-level domain of each kind that it was given, and one domain for each tile. Card, packages
 * and tiles are parts of one another: packages together draw package_ratio of the card, a tile tile_ratio. */
#include <stdio.h>

#include "cards.h"

typedef uint32_t result_t;
#define OK 0u
#define DEVICE_LOST 0x70000001u
#define NO_PERMISSION 0x70010000u
#define UNINITIALIZED 0x78000001u
#define UNSUPPORTED 0x78000003u
#define INVALID_HANDLE 0x78000005u

#define DRIVER ((void *)0x2e50001)
enum { CARD = 1, PACKAGE = 2, STACK = 3, TILE = 16 };

typedef struct {
    int32_t stype;
    void *next;
    int32_t type;
    uint32_t vendor, device, flags, subdevice, clock;
    uint64_t allocation;
    uint32_t contexts, priority, threads, width, units, subslices, slices;
    uint64_t resolution;
    uint32_t bits, kernel_bits;
    unsigned char uuid[16];
    char name[256];
} core_t;

typedef struct {
    int32_t stype;
    void *next;
    core_t core;
    uint32_t subdevices;
    char serial[64], board[64], brand[64], model[64], vendor[64], driver[64];
} device_t;

typedef struct {
    int32_t stype;
    void *next;
    uint32_t domain, bus, device, function;
    int32_t gen, width;
    int64_t bandwidth;
    uint8_t counters[3];
} pci_t;

typedef struct {
    int32_t stype;
    void *next;
    int32_t domain;
    void *limit;
} power_ext_t;

typedef struct {
    int32_t stype;
    power_ext_t *next;
    uint8_t on_subdevice;
    uint32_t subdevice;
    uint8_t can_control, threshold;
    int32_t default_mw, least_mw, most_mw;
} power_t;

typedef struct {
    uint64_t energy_uj, stamp_us;
} counter_t;

_Static_assert(sizeof(core_t) == 368 && sizeof(device_t) == 776, "as zes_api.h");
_Static_assert(sizeof(power_t) == 40 && sizeof(power_ext_t) == 32 && sizeof(pci_t) == 56, "as zes_api.h");

EXPORT result_t zesInit(uint32_t flags)
{
    (void)flags;
    machine_t *machine = attach();
    if (!machine)
        return UNINITIALIZED;
    return machine->sysman_error;
}

EXPORT result_t zesDriverGet(uint32_t *count, void **drivers)
{
    if (!is_here())
        return UNINITIALIZED;
    if (drivers && *count)
        drivers[0] = DRIVER;
    *count = 1;
    return OK;
}

static int is_shown(card_t *card) { return card->kind == SIM_INTEL || card->kind == SIM_NPU; }

EXPORT result_t zesDeviceGet(void *driver, uint32_t *count, void **devices)
{
    if (!is_here())
        return UNINITIALIZED;
    if (driver != DRIVER)
        return INVALID_HANDLE;
    uint32_t found = 0;
    for (uintptr_t place = 0; place < attached->card_count; place++) {
        card_t *card = &attached->card[place];
        if (!is_shown(card) || card->hidden)
            continue;
        if (devices && found < *count)
            devices[found] = (void *)((uintptr_t)0xca000000 | (place + 1) << 8);
        found++;
    }
    if (!devices || found < *count)
        *count = found;
    return OK;
}

/* A device's handle has 0 in its last byte, a domain's the number of the domain. */
static result_t enter(void *handle, card_t **card, unsigned int *domain)
{
    if (!is_here())
        return UNINITIALIZED;
    uintptr_t number = (uintptr_t)handle, place = (number >> 8 & 0xffff) - 1;
    if ((number & 0xff000000) != 0xca000000 || place >= attached->card_count)
        return INVALID_HANDLE;
    *card = &attached->card[place];
    *domain = (unsigned int)(number & 0xff);
    delay(*card);
    if ((*card)->lost)
        return DEVICE_LOST;
    return (*card)->call_error;
}

EXPORT result_t zesDeviceGetProperties(void *handle, device_t *properties)
{
    card_t *card;
    unsigned int domain;
    result_t result = enter(handle, &card, &domain);
    if (result)
        return result;
    properties->core.type = card->kind == SIM_NPU ? 5 : 1;
    properties->core.vendor = 0x8086;
    strncpy(properties->core.name, (const char *)(uintptr_t)card->name, sizeof properties->core.name - 1);
    strcpy(properties->model, "unknown");
    properties->subdevices = card->tiles > 1 ? card->tiles : 0;
    return OK;
}

EXPORT result_t zesDevicePciGetProperties(void *handle, pci_t *pci)
{
    card_t *card;
    unsigned int domain;
    result_t result = enter(handle, &card, &domain);
    if (result)
        return result;
    pci->domain = card->domain;
    pci->bus = card->bus;
    pci->device = card->device;
    pci->function = card->function;
    return OK;
}

/* The kind of a card's domain by its number from 1 on, TILE + n for a tile's, -1 if there is none. */
static int kind_of(card_t *card, unsigned int number)
{
    for (unsigned int i = 0; i < card->tiles && card->tells_tiles; i++) /* tiles first: nobody may take the first one */
        if (!--number)
            return TILE + (int)i;
    if (card->tells_unknown && !--number)
        return 0;
    for (unsigned int i = 0; i < card->packages; i++)
        if (!--number)
            return PACKAGE;
    if (card->tells_card && !--number)
        return CARD;
    return -1;
}

EXPORT result_t zesDeviceEnumPowerDomains(void *handle, uint32_t *count, void **domains)
{
    card_t *card;
    unsigned int domain;
    result_t result = enter(handle, &card, &domain);
    if (result)
        return result;
    uint32_t found = 0;
    while (kind_of(card, found + 1) >= 0) {
        if (domains && found < *count)
            domains[found] = (void *)((uintptr_t)handle | (found + 1));
        found++;
    }
    if (!domains || found < *count)
        *count = found;
    return OK;
}

EXPORT result_t zesPowerGetProperties(void *handle, power_t *power)
{
    card_t *card;
    unsigned int domain;
    result_t result = enter(handle, &card, &domain);
    if (result)
        return result;
    if (power->stype != 0xd || (power->next && power->next->stype != 0x28))
        return UNSUPPORTED;
    int kind = kind_of(card, domain);
    power->on_subdevice = kind >= TILE;
    power->subdevice = kind >= TILE ? (uint32_t)(kind - TILE) : 0;
    power->default_mw = power->most_mw = kind >= TILE || card->no_limit ? -1 : (int32_t)card->limit_mw;
    power->least_mw = -1;
    if (kind == PACKAGE && card->packages > 1 && !card->no_limit)
        power->default_mw = power->most_mw = (int32_t)(card->limit_mw / card->packages);
    if (power->next && !card->old_driver)
        power->next->domain = kind >= TILE ? PACKAGE : kind;
    return OK;
}

EXPORT result_t zesPowerGetEnergyCounter(void *handle, counter_t *counter)
{
    card_t *card;
    unsigned int domain;
    result_t result = enter(handle, &card, &domain);
    if (result)
        return result;
    int kind = kind_of(card, domain);
    if (card->no_permission || (kind == CARD && card->card_denied))
        return NO_PERMISSION;
    if (card->no_counter)
        return UNSUPPORTED;
    if (card->counter_error)
        return card->counter_error;
    double ratio = kind >= TILE ? card->tile_ratio : kind == PACKAGE ? card->package_ratio / card->packages : 1;
    counter->energy_uj = card->sentinel ? ~0ull : to_counter(counter_uj(card) * ratio);
    if (kind == CARD && card->card_zero)
        counter->energy_uj = 0;
    counter->stamp_us = card->no_stamp ? 0 : (uint64_t)((renewed_s(card) - attached->epoch_s + 100) * 1e6);
    return OK;
}
