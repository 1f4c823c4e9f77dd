/* Power as a function of time and its integral in closed form; profiles.py is the same in Python.
 *
 * Times are seconds since the profile came into force; before that (negative times) a periodic shape simply
 * goes on, so that readings that look back find power there. */
#ifndef PROFILE_H
#define PROFILE_H

#include <math.h>

#include "sim.h"

#define SIM_TAU 6.283185307179586

static inline double shape_power(uint32_t shape, const double *p, double t)
{
    switch (shape) {
    case SIM_SQUARE: /* each period begins high */
        return t - floor(t / p[2]) * p[2] < p[3] * p[2] ? p[1] : p[0];
    case SIM_SINE:
        return p[0] + p[1] * sin(SIM_TAU * t / p[2]);
    case SIM_RAMP:
        return t < 0 ? p[0] : t < p[2] ? p[0] + (p[1] - p[0]) * t / p[2] : p[1];
    default:
        return p[0];
    }
}

static inline double shape_integral(uint32_t shape, const double *p, double t)
{
    switch (shape) {
    case SIM_SQUARE: {
        double periods = floor(t / p[2]);
        double rest = t - periods * p[2];
        double high = p[3] * p[2];
        double whole = periods * (p[1] * high + p[0] * (p[2] - high));
        return whole + (rest < high ? p[1] * rest : p[1] * high + p[0] * (rest - high));
    }
    case SIM_SINE:
        return p[0] * t + p[1] * p[2] / SIM_TAU * (1 - cos(SIM_TAU * t / p[2]));
    case SIM_RAMP:
        if (t < 0)
            return p[0] * t;
        if (t < p[2])
            return p[0] * t + (p[1] - p[0]) * t * t / (2 * p[2]);
        return (p[0] + p[1]) * p[2] / 2 + p[1] * (t - p[2]);
    default:
        return p[0] * t;
    }
}

/* The profile in force at now_s: the active slot, or before it began the one that it replaced. */
static inline struct sim_profile source_profile(const volatile struct sim_source *source, double now_s)
{
    uint32_t active = source->active & 1;
    struct sim_profile profile = source->slot[active];
    if (now_s < profile.since_s && source->slot[active ^ 1].since_s < profile.since_s)
        profile = source->slot[active ^ 1];
    return profile;
}

/* The value (W, %) at a time. */
static inline double source_value(const volatile struct sim_source *source, double now_s)
{
    struct sim_profile profile = source_profile(source, now_s);
    return shape_power(profile.shape, profile.parameter, now_s - profile.since_s);
}

/* Its integral (J, % s) up to a time, counted from when the machine began. */
static inline double source_integral(const volatile struct sim_source *source, double now_s)
{
    struct sim_profile profile = source_profile(source, now_s);
    return profile.base + shape_integral(profile.shape, profile.parameter, now_s - profile.since_s);
}

static inline double source_mean(const volatile struct sim_source *source, double start_s, double end_s)
{
    if (end_s <= start_s)
        return source_value(source, end_s);
    return (source_integral(source, end_s) - source_integral(source, start_s)) / (end_s - start_s);
}

#endif
