"""The service around NeuroMAS: REST API, store, supervisor of runs and endpoints, dashboard. Sits on ``neuromas``."""
