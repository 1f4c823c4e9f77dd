/* The simulated libhlml.so: what Habana's package pyhlml calls of it, for the Gaudi cards of a machine. */
#include <stdio.h>

#include "cards.h"

enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    AIP_IS_LOST = 15,
};

typedef struct {
    unsigned int bus;
    char bus_id[19];
    unsigned int device;
    unsigned int domain;
    unsigned int pci_device_id;
    char caps[4][10];
    unsigned int pci_rev;
    unsigned int pci_subsys_id;
} pci_info_t;

static int initialised;

EXPORT int hlml_init(void)
{
    machine_t *machine = attach();
    if (!machine)
        return DRIVER_NOT_LOADED;
    if (machine->hlml_error)
        return (int)machine->hlml_error;
    initialised = 1;
    return OK;
}

EXPORT int hlml_shutdown(void)
{
    int result = initialised ? OK : UNINITIALIZED;
    initialised = 0;
    return result;
}

static int is_gaudi(card_t *card) { return card->kind == SIM_GAUDI; }

/* The place of the Gaudi card with that index, -1 if there is none. */
static int place_of(unsigned int index)
{
    for (unsigned int place = 0; place < attached->card_count; place++)
        if (is_gaudi(&attached->card[place]) && !index--)
            return (int)place;
    return -1;
}

static int enter(void)
{
    if (!initialised)
        return UNINITIALIZED;
    if (!is_here() || attached->hlml_error)
        return DRIVER_NOT_LOADED;
    return OK;
}

/* Handles are numbers: 0x61 | generation (16 bits) | place + 1 (16 bits). */
static int give_handle(int place, void **handle)
{
    if (place < 0)
        return INVALID_ARGUMENT;
    card_t *card = &attached->card[place];
    delay(card);
    if (card->lost)
        return AIP_IS_LOST;
    *handle = (void *)((uintptr_t)0x61 << 32 | (uintptr_t)(generation & 0xffff) << 16 | (uintptr_t)(place + 1));
    return OK;
}

static int enter_card(void *handle, card_t **card)
{
    int result = enter();
    if (result)
        return result;
    uintptr_t number = (uintptr_t)handle;
    unsigned int place = (unsigned int)(number & 0xffff) - 1;
    if (number >> 16 != ((uintptr_t)0x61 << 16 | (generation & 0xffff)) || place >= attached->card_count)
        return INVALID_ARGUMENT;
    *card = &attached->card[place];
    delay(*card);
    if ((*card)->lost)
        return AIP_IS_LOST;
    return (int)(*card)->call_error;
}

EXPORT int hlml_device_get_count(unsigned int *count)
{
    int result = enter();
    if (result)
        return result;
    *count = 0;
    for (unsigned int place = 0; place < attached->card_count; place++)
        *count += (unsigned int)is_gaudi(&attached->card[place]);
    return OK;
}

EXPORT int hlml_device_get_handle_by_index(unsigned int index, void **handle)
{
    int result = enter();
    return result ? result : give_handle(place_of(index), handle);
}

static void address_of(card_t *card, char *text, size_t size)
{
    snprintf(text, size, "%04x:%02x:%02x.%x", card->domain, card->bus, card->device, card->function);
}

EXPORT int hlml_device_get_handle_by_pci_bus_id(const char *address, void **handle)
{
    int result = enter();
    if (result)
        return result;
    for (unsigned int place = 0; place < attached->card_count; place++) {
        char text[20];
        address_of(&attached->card[place], text, sizeof text);
        if (is_gaudi(&attached->card[place]) && !strcmp(text, address))
            return give_handle((int)place, handle);
    }
    return INVALID_ARGUMENT;
}

static int give_text(card_t *card, const volatile char *text, char *buffer, unsigned int size)
{
    (void)card;
    const char *stable = (const char *)(uintptr_t)text;
    if (strlen(stable) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, stable);
    return OK;
}

EXPORT int hlml_device_get_name(void *handle, char *name, unsigned int size)
{
    card_t *card;
    int result = enter_card(handle, &card);
    return result ? result : give_text(card, card->name, name, size);
}

EXPORT int hlml_device_get_pci_info(void *handle, pci_info_t *info, unsigned int size)
{
    (void)size;
    card_t *card;
    int result = enter_card(handle, &card);
    if (result)
        return result;
    info->domain = card->domain;
    info->bus = card->bus;
    info->device = card->device;
    address_of(card, info->bus_id, sizeof info->bus_id);
    return OK;
}

EXPORT int hlml_device_get_module_id(void *handle, unsigned int *module)
{
    card_t *card;
    int result = enter_card(handle, &card);
    if (!result)
        *module = card->module;
    return result;
}

EXPORT int hlml_device_get_oper_status(void *handle, char *status, unsigned int size)
{
    uintptr_t place = ((uintptr_t)handle & 0xffff) - 1;
    if (!is_here() || place >= attached->card_count)
        return INVALID_ARGUMENT;
    card_t *card = &attached->card[place];
    return give_text(card, card->status, status, size);
}

EXPORT int hlml_device_get_power_management_default_limit(void *handle, unsigned int *limit_mw)
{
    card_t *card;
    int result = enter_card(handle, &card);
    if (!result && card->no_limit)
        return NOT_SUPPORTED;
    if (!result)
        *limit_mw = card->limit_mw;
    return result;
}

EXPORT int hlml_device_get_power_management_limit_constraints(void *handle, unsigned int *least_mw,
                                                              unsigned int *most_mw)
{
    card_t *card;
    int result = enter_card(handle, &card);
    if (!result && card->no_limit)
        return NOT_SUPPORTED;
    if (!result) {
        *least_mw = card->limit_mw / 2;
        *most_mw = card->limit_mw;
    }
    return result;
}

EXPORT int hlml_device_get_total_energy_consumption(void *handle, unsigned long long *energy_mj)
{
    card_t *card;
    int result = enter_card(handle, &card);
    if (result)
        return result;
    if (card->no_counter)
        return NOT_SUPPORTED;
    if (card->counter_error)
        return (int)card->counter_error;
    *energy_mj = card->sentinel ? ~0ull : to_counter(counter_uj(card) / 1e3);
    return OK;
}

EXPORT int hlml_device_get_power_usage(void *handle, unsigned int *power_mw)
{
    card_t *card;
    int result = enter_card(handle, &card);
    if (result)
        return result;
    if (card->no_power)
        return NOT_SUPPORTED;
    if (card->power_error)
        return (int)card->power_error;
    double now_s = machine_now_s(attached);
    double mean_w = source_mean(&card->power, now_s - card->window_s, now_s);
    *power_mw = card->sentinel ? ~0u : (unsigned int)(mean_w * 1e3 + 0.5);
    return OK;
}

/* As the driver has it: from the power, so that an idle card is at 0 and a busy one at 100. */
EXPORT int hlml_device_get_utilization_rates(void *handle, unsigned int *utilization)
{
    card_t *card;
    int result = enter_card(handle, &card);
    if (!result) {
        __atomic_fetch_add(&card->utilization_calls, 1, __ATOMIC_RELAXED);
        utilization[0] = 97;
        utilization[1] = 50;
    }
    return result;
}
