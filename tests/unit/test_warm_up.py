import subprocess
import sys

_FRESH_PROCESS = """
from pointsman_operator.warm_up import warm_up
from pointsman_policy import ledger, reckoning

warm_up()
kernels = reckoning.assemble, reckoning.open_request, reckoning.observe, reckoning.reckon, ledger.close_entry
print([kernel.__name__ for kernel in kernels if not kernel.signatures])
"""


def test_every_kernel_of_a_decision_is_compiled_before_the_first_one() -> None:
    ran = subprocess.run([sys.executable, "-c", _FRESH_PROCESS], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")
