__version__ = "26.0.2+simulator"
