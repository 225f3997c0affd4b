"""The login's paths on an application's host: answered here, with what the control plane says, and never by the application.

`paths` knows them, `errand` is one request of them, `client` carries it over HTTP, `told` judges what comes back, `relay` does
all this within bounds. None of it is on the way of a check.
"""
