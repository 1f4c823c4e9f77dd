"""The sources of readings, one a file or folder, each behind `carbonmon.ports.Sensor`."""
