"""`pointsman operator` refuses arguments that cannot work, by their names."""

import pytest
from typer.testing import CliRunner

from pointsman_operator.cli.main import app

NEEDED = ["operator", "--router-namespace", "pointsman", "--router-selector", "app=router"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["operator"], "--router-namespace"),
        ([*NEEDED, "--tls-certificate", "a.crt"], "--tls-certificate and --tls-key go together"),
        ([*NEEDED, "--tls-certificate", "a.crt", "--tls-key", "a.key"], "need --tls-ca"),
        ([*NEEDED, "--webhook-listen", "9443"], "must be"),
        ([*NEEDED, "--webhook-listen", "127.0.0.1:https"], "must be"),
        ([*NEEDED, "--webhook-listen", "127.0.0.1:99999"], "must be"),
        ([*NEEDED, "--webhook-listen", "127.0.0.1:9443"], "needs --webhook-certificate and --webhook-key"),
        ([*NEEDED, "--router-port", "0"], "--router-port"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, arguments, env={"TERMINAL_WIDTH": "200", "COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.output
