from pointsman_operator.warm_up import warm_up
from pointsman_policy import ledger, reckoning


def test_every_kernel_of_a_decision_is_compiled_before_the_first_one() -> None:
    warm_up()
    kernels = (
        reckoning.assemble,
        reckoning.open_request,
        reckoning.observe,
        reckoning.reckon,
        ledger.close_entry,
    )
    assert [kernel.__name__ for kernel in kernels if not kernel.signatures] == []  # type: ignore[attr-defined]
