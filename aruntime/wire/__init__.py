"""Bytes to values and values to bytes: requests, answers, events, errors. Pure; knows no server."""
