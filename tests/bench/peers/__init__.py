"""Other programs that measure the energy of a job, beside carbonmon: the same job, machine and moment."""
