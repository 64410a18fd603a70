"""The routes: each file is one noun of the API; what it does is elsewhere."""
