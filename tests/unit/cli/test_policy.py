from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--tls-key", "key.pem"), 2, "TLS needs both --tls-certificate and --tls-key"),
        (("--tls-client-ca", "ca.pem"), 2, "TLS needs both --tls-certificate and --tls-key"),
        (("--tls-key", "key.pem", "--tls-certificate", "none.pem"), 2, "none.pem: cannot be read for TLS"),
        (("--policy", "none.yaml"), 2, "none.yaml: "),
        (("--listen", "here"), 1, "cannot listen on 'here'"),
        (("--retention-days", 0), 2, "Invalid value for '--retention-days'"),
        (("--outcomes-url", "nowhere://bucket"), 2, "nowhere://bucket: cannot be used for outcomes"),
    ],
)
def test_what_it_cannot_start_with_is_said(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], code: int, message: str
) -> None:
    result = run("policy", "--root", tmp_path / "root", "--admin-port", 0, *arguments)
    assert (result.code, message in result.err) == (code, True), result.err


def test_a_root_that_cannot_be_made_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("policy", "--root", tmp_path / "file" / "root", "--admin-port", 0)
    assert result.code == 1
    assert "Not a directory" in result.err
