import subprocess
from pathlib import Path

import pytest

from pointsman_operator.serving.envoy_config import EnvoySettings, render_bootstrap, write_endpoints


@pytest.mark.parametrize(
    ("router_addresses", "fail_open"),
    [
        (("127.0.0.1:9002",), True),
        (("127.0.0.1:9002",), False),
        (("[::1]:9002", "unix:/run/pointsman/router.sock"), True),
        ((), True),
    ],
    ids=["one router", "fail closed", "two routers", "no router"],
)
def test_envoy_accepts_the_configuration(
    envoy_binary: Path, tmp_path: Path, router_addresses: tuple[str, ...], fail_open: bool
) -> None:
    endpoints = tmp_path / "endpoints.json"
    write_endpoints(endpoints, ["127.0.0.2:8000", "[::1]:8000"])
    settings = EnvoySettings(
        listen_port=8080,
        admin_port=9901,
        endpoints_path=endpoints,
        router_addresses=router_addresses,
        fail_open=fail_open,
    )
    config = tmp_path / "envoy.yaml"
    config.write_text(render_bootstrap(settings), "utf-8")
    result = subprocess.run(
        [envoy_binary, "--mode", "validate", "-c", config], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "warning" not in result.stderr
