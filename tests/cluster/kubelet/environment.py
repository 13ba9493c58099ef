"""The variables of a container."""

from collections.abc import Iterable, Mapping

from tests.cluster.kubelet.documents import Document
from tests.cluster.kubelet.expansion import expand
from tests.cluster.kubelet.sources import NotThereError, Sources, pod_field, resource_field


def container_environment(
    pod: Document, container: Document, sources: Sources, services: Iterable[Document]
) -> dict[str, str]:
    """Return what a container's document makes of its environment, without what its image brings.

    Args:
        pod: with its status, for the downward API.
        container: one of its containers.
        sources: ConfigMaps and Secrets.
        services: those of the pod's namespace.

    Raises:
        NotThereError: a ConfigMap, Secret or key does not exist and is not optional.
    """
    variables = service_variables(services) if pod["spec"].get("enableServiceLinks", True) else {}
    for source in container.get("envFrom", ()):
        variables |= _all_entries(pod, source, sources)
    for variable in container.get("env", ()):
        value = _value(pod, container, variable, sources)
        if value is not None:
            variables[variable["name"]] = expand(value, variables) if "valueFrom" not in variable else value
    return variables


def service_variables(services: Iterable[Document]) -> dict[str, str]:
    """Return the variables that name Services' addresses and ports."""
    variables = {}
    for service in services:
        address, ports = service["spec"].get("clusterIP"), service["spec"].get("ports", ())
        if address in (None, "", "None") or not ports:
            continue
        prefix = service["metadata"]["name"].upper().replace("-", "_")
        variables[f"{prefix}_SERVICE_HOST"] = address
        variables[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if "name" in port:
                name = port["name"].upper().replace("-", "_")
                variables[f"{prefix}_SERVICE_PORT_{name}"] = str(port["port"])
    return variables


def _all_entries(pod: Document, source: Document, sources: Sources) -> dict[str, str]:
    namespace, prefix = pod["metadata"]["namespace"], source.get("prefix", "")
    if reference := source.get("configMapRef"):
        entries = sources.config_map(namespace, reference["name"], optional=reference.get("optional", False))
    else:
        reference = source["secretRef"]
        entries = sources.secret(namespace, reference["name"], optional=reference.get("optional", False))
    return {prefix + name: value.decode() for name, value in entries.items()}


def _value(pod: Document, container: Document, variable: Document, sources: Sources) -> str | None:
    origin = variable.get("valueFrom")
    if origin is None:
        return str(variable.get("value", ""))
    if reference := origin.get("fieldRef"):
        return pod_field(pod, reference["fieldPath"])
    if reference := origin.get("resourceFieldRef"):
        return resource_field(_named(pod, reference.get("containerName")) or container, reference)
    return _entry(pod, origin, sources)


def _entry(pod: Document, origin: Mapping[str, Document], sources: Sources) -> str | None:
    """Return one entry of a ConfigMap or Secret; None if it is optional and missing."""
    namespace = pod["metadata"]["namespace"]
    kind, reference = next(iter(origin.items()))
    find = sources.config_map if kind == "configMapKeyRef" else sources.secret
    optional = reference.get("optional", False)
    found = find(namespace, reference["name"], optional=optional).get(reference["key"])
    if found is None and not optional:
        message = (
            f"couldn't find key {reference['key']} in {kind.removesuffix('KeyRef')} {namespace}/{reference['name']}"
        )
        raise NotThereError(message)
    return None if found is None else found.decode()


def _named(pod: Document, name: str | None) -> Document | None:
    return next((one for one in pod["spec"]["containers"] if one["name"] == name), None)
