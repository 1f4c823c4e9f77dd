# Completion of carbonmon for fish 3 or later. The command itself says what may stand at a place.
_CARBONMON_COMPLETE=fish_source carbonmon | source
