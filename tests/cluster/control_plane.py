"""A real Kubernetes control plane on loopback: etcd, API server, controller manager, scheduler."""

import secrets
import signal
import ssl
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from tests.cluster.addresses import AddressBlock, hosts
from tests.cluster.binaries import Binaries, minor_version
from tests.cluster.certificates import CertificateAuthority, KeyPair, write_key
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.part import Part

ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER, KUBELET = 1, 2, 3, 4, 5
"""Numbers of the addresses at which the parts listen."""
KUBELET_PORT = 10250
API_SERVER_NAME = "kubernetes.default.svc"
API_SERVER_GRACE_SECONDS = 1.0
"""Otherwise it waits a minute for watches over HTTP/1.1, which do not end."""
WITHOUT_INSECURE_PORTS = 24
"""Older versions also listen without encryption, on every address, unless told not to."""
EVENT_LIFETIME = "1h"
NODE_GRACE = "24h"
"""Nodes are marked lost by tests, never by a busy machine that is late with a heartbeat."""
LOOPBACK_BLIND_CONTROLLERS = ("endpoint", "endpointslice", "endpointslicemirroring")
"""They cannot write loopback addresses into Endpoints, which the API forbids, and would try for ever."""


class ControlPlane:
    """The four parts, their files in one folder, each a `Part` that may be stopped and started.

    Attributes:
        url: the API server.
        ca: PEM file with which its certificate is verified.
        token: bearer token of a member of system:masters.
        kubeconfig: the same three in a file.
        authority: signs further certificates that the API server takes for a client's.
    """

    def __init__(self, folder: Path, binaries: Binaries, addresses: AddressBlock) -> None:
        self.folder = folder
        self.addresses = addresses
        self.url = f"https://{addresses.control_plane(API_SERVER)}:6443"
        self.token = secrets.token_urlsafe(24)
        self.authority = CertificateAuthority(folder)
        self.ca = self.authority.certificate
        self.kubeconfig = write_kubeconfig(folder / "admin.kubeconfig", server=self.url, ca=self.ca, token=self.token)
        self._direct = _opener_without_proxy_or_verification()
        self._service_account_key = folder / "service-accounts.key"
        write_key(ec.generate_private_key(ec.SECP256R1()), self._service_account_key)
        self.etcd = self._etcd(binaries.etcd)
        self.api_server = self._api_server(binaries.api_server)
        self.controller_manager = self._controller_manager(binaries.controller_manager)
        self.scheduler = self._scheduler(binaries.scheduler)

    @property
    def parts(self) -> Sequence[Part]:
        """The parts in the order in which they start."""
        return (self.etcd, self.api_server, self.controller_manager, self.scheduler)

    def start(self) -> None:
        """Start all parts; returns when each says that it serves.

        Raises:
            PartFailedError: one did not.
        """
        self.etcd.start()
        self.api_server.start()
        self.controller_manager.launch()
        self.scheduler.start()
        self.controller_manager.wait_until_ready()

    def stop(self) -> None:
        """Kill all parts, the last one first: nothing of theirs is needed any more."""
        for part in reversed(self.parts):
            part.stop(signal.SIGKILL)

    def _etcd(self, program: Path) -> Part:
        url = f"http://{self.addresses.control_plane(ETCD)}"
        command = [
            str(program),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={url}:2379",
            f"--advertise-client-urls={url}:2379",
            f"--listen-peer-urls={url}:2380",
            f"--initial-advertise-peer-urls={url}:2380",
            f"--initial-cluster=default={url}:2380",
            "--unsafe-no-fsync",
        ]
        return self._part("etcd", command, f"{url}:2379/health")

    def _api_server(self, program: Path) -> Part:
        address = self.addresses.control_plane(API_SERVER)
        first_service = next(hosts(self.addresses.services))
        names = (address, first_service, API_SERVER_NAME, "kubernetes.default", "kubernetes", "localhost")
        serving = self.authority.issue("kube-apiserver", names, group="system:masters")
        command = [
            str(program),
            f"--etcd-servers=http://{self.addresses.control_plane(ETCD)}:2379",
            f"--bind-address={address}",
            f"--advertise-address={address}",
            "--secure-port=6443",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.ca}",
            f"--kubelet-certificate-authority={self.ca}",
            f"--kubelet-client-certificate={serving.certificate}",
            f"--kubelet-client-key={serving.key}",
            f"--service-account-key-file={self._service_account_key}",
            f"--service-account-signing-key-file={self._service_account_key}",
            f"--service-account-issuer=https://{API_SERVER_NAME}",
            f"--service-cluster-ip-range={self.addresses.services}",
            f"--token-auth-file={self._tokens()}",
            "--authorization-mode=RBAC",
            "--allow-privileged=false",
            f"--event-ttl={EVENT_LIFETIME}",
            "--profiling=false",
        ]
        part = self._part("kube-apiserver", command, f"{self.url}/readyz")
        part.grace_seconds = API_SERVER_GRACE_SECONDS
        return part

    def _controller_manager(self, program: Path) -> Part:
        address = self.addresses.control_plane(CONTROLLER_MANAGER)
        disabled = ",".join(f"-{controller}" for controller in LOOPBACK_BLIND_CONTROLLERS)
        command = [
            str(program),
            *self._client_arguments("kube-controller-manager", program, address),
            "--secure-port=10257",
            f"--service-account-private-key-file={self._service_account_key}",
            f"--root-ca-file={self.ca}",
            "--use-service-account-credentials",
            f"--controllers=*,{disabled}",
            f"--node-monitor-grace-period={NODE_GRACE}",
            "--concurrent-gc-syncs=4",
        ]
        return self._part("kube-controller-manager", command, f"https://{address}:10257/healthz")

    def _scheduler(self, program: Path) -> Part:
        address = self.addresses.control_plane(SCHEDULER)
        command = [str(program), *self._client_arguments("kube-scheduler", program, address), "--secure-port=10259"]
        return self._part("kube-scheduler", command, f"https://{address}:10259/healthz")

    def _client_arguments(self, name: str, program: Path, address: str) -> list[str]:
        without_encryption = ["--port=0"] if minor_version(program) < WITHOUT_INSECURE_PORTS else []
        return [
            *without_encryption,
            f"--kubeconfig={self.kubeconfig}",
            f"--bind-address={address}",
            f"--cert-dir={self.folder / name}",
            "--leader-elect=false",
            "--profiling=false",
        ]

    def _tokens(self) -> Path:
        path = self.folder / "tokens.csv"
        path.touch(mode=0o600)
        path.write_text(f'{self.token},admin,admin,"system:masters"\n')
        return path

    def _part(self, name: str, command: Sequence[str], health: str) -> Part:
        return Part(name, command, lambda: self._answers(health), self.folder / f"{name}.log")

    def _answers(self, url: str) -> bool:
        request = urllib.request.Request(url)  # noqa: S310 - our own addresses
        if url.startswith(self.url):
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with self._direct.open(request, timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def kubelet_certificate(self) -> KeyPair:
        """Return a serving certificate for the address at which a kubelet listens."""
        return self.authority.issue("kubelet", [self.addresses.control_plane(KUBELET)])


def _opener_without_proxy_or_verification() -> urllib.request.OpenerDirector:
    """Only readiness is asked this way, and of parts that sign their certificates themselves."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
