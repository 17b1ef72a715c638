"""Processes that spend from one bucket as fast as they can.

    python admission_spender.py FD drain|churn

At a moment that stands still. `drain` spends 1 until nothing is left and prints how often it could; `churn` says so,
then spends 1 and gives it back, without end.
"""

import sys

from aruntime.admission.ledger import TOKENS, Ledger
from aruntime.queue.table import Table

TENANT, PER_MINUTE, NOW_S = 5, 30_000, 1_000_000.0


def main() -> None:
    ledger = Ledger(Table(int(sys.argv[1])), 1)
    if sys.argv[2] == "drain":
        spent = 0
        while ledger.try_spend(TENANT, TOKENS, 1, PER_MINUTE, NOW_S) == 0:
            spent += 1
        print(spent)
        return
    print("churning", flush=True)
    while True:
        if ledger.try_spend(TENANT, TOKENS, 1, PER_MINUTE, NOW_S) == 0:
            ledger.refund(TENANT, TOKENS, 1, 0, PER_MINUTE)


if __name__ == "__main__":
    main()
