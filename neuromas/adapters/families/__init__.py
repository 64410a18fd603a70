"""Adapter families: each a folder of its own and a line in ``registry``. Nothing outside names one."""
