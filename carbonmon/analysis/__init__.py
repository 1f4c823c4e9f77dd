"""Beforehand and afterwards; nothing of it runs beside a job."""
