"""Makes strict JSON schemas of Kubernetes objects and of the custom resources that the chart can make.

    schemas.py GO-MODULE-FOLDER OUTPUT

Kubernetes' own come from its OpenAPI description, in the Go module that the folder's go.mod names; custom resources from
their definitions in the Go modules of their projects. Strict: a field that the API does not know is an error.
"""

import json
import pathlib
import re
import subprocess
import sys

from ruamel.yaml import YAML

CUSTOM = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": [
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
    "github.com/cert-manager/cert-manager@v1.21.2": [
        "deploy/crds/cert-manager.io_certificates.yaml",
        "deploy/crds/cert-manager.io_issuers.yaml",
    ],
    "sigs.k8s.io/gateway-api@v1.6.3": ["config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml"],
}
# For people, or for the API server only.
DROPPED = {"description", "default", "example", "x-kubernetes-group-version-kind", "title", "externalDocs"}
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def module(name, folder=None):
    command = ["go", "mod", "download", "-json", name] if folder is None else ["go", "list", "-m", "-json", name]
    answer = subprocess.run(command, cwd=folder or "/", check=True, capture_output=True, text=True)
    return pathlib.Path(json.loads(answer.stdout)["Dir"])


def strict(node):
    """The same, closed: what is not named is not allowed."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string") or node.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    out = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: strict(schema) for name, schema in value.items()}
        elif key == "pattern":
            # The checker takes every dollar sign for the end of the text, also one that is a member of a set.
            pattern = re.sub(r"\[[^\]]*\]", lambda found: found[0].replace("$", r"\x24"), value)
            # Python wants this at the very front.
            out[key] = "(?i)" + pattern.replace("(?i)", "") if "(?i)" in pattern else pattern
        elif key == "format" or key in DROPPED or key.startswith("x-"):
            continue
        else:
            out[key] = strict(value)
    is_open = node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-embedded-resource")
    if out.get("properties") and "additionalProperties" not in out and not is_open:
        out["additionalProperties"] = False
    if "$ref" in out:
        out = {"$ref": out["$ref"]}
    return out


def names_of_group_version_kind(definitions):
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            version = f"{kind['group']}/{kind['version']}" if kind["group"] else kind["version"]
            yield f"{version}/{kind['kind']}", name


def reached(definitions, first):
    wanted, found = [first], {}
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found[name] = definitions[name]
        text = json.dumps(definitions[name])
        wanted += [part.split('"', 1)[0] for part in text.split('"#/definitions/')[1:]]
    return found


def main():
    folder, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    swagger = module("k8s.io/kubernetes", folder) / "api/openapi-spec/swagger.json"
    raw = json.loads(swagger.read_text())["definitions"]
    definitions = {name: strict(schema) for name, schema in raw.items()}
    definitions[QUANTITY] = {"type": ["string", "number"]}
    schemas = {}
    for kind, name in names_of_group_version_kind(raw):
        # Deletion options are named once for every group, and nobody writes them into a chart.
        if name.endswith(("DeleteOptions", "WatchEvent", "List")):
            continue
        schemas[kind] = {"$ref": f"#/definitions/{name}", "definitions": reached(definitions, name)}
    meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    reader = YAML(typ="safe", pure=True)
    for name, paths in CUSTOM.items():
        root = module(name)
        for path in paths:
            definition = reader.load((root / path).read_text())["spec"]
            for version in definition["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"$ref": f"#/definitions/{meta}"}
                schema["definitions"] = reached(definitions, meta)
                schemas[f"{definition['group']}/{version['name']}/{definition['names']['kind']}"] = schema
    output.write_text(json.dumps(schemas, separators=(",", ":")))
    print(f"{len(schemas)} kinds, {output.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
