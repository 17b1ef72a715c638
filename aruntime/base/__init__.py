"""Words that every room shares: errors, names, time, one-line logs. Imports nothing of aruntime."""
