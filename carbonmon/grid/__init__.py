"""Carbon intensity of the electricity: one file a source, each behind the port `IntensityProvider`."""
