"""The door: says yes or no before any work, and hands out tickets. Never waits, never sees text."""
