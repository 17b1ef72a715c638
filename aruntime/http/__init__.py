"""The network's edge: routes, headers, streams, metrics. Reads the models through control.view."""
