"""A site without an open network: mirror, pull secret, proxies, certificates and weights in every target's files."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import planner
from planner.errors import UsageError
from planner.render import placement, render, targets
from planner.render.launch import plan_launch
from planner.spec.plan import Plan
from planner.spec.site import Site
from planner.validate import custom
from planner.validate.lint import tools

MIRROR = "registry.corp.example:5000/mirror"
CLOSED = {"registry": MIRROR, "pull_secret": "corp-pull", "hub": False}
PROXIES = {"http_proxy": "http://proxy.corp:3128", "https_proxy": "http://proxy.corp:3128", "no_proxy": ".corp"}


def at(plan: Plan, **site: Any) -> Plan:
    return plan.model_copy(update={"request": plan.request.model_copy(update={"site": Site(**site)})})


def refused(plan: Plan, target: str) -> str | None:
    try:
        render(plan, [target])
    except UsageError as error:
        return str(error)
    return None


def pod_of(text: str) -> dict[str, Any]:
    (pod,) = [pod for document in yaml.safe_load_all(text) for pod in custom.pods(document)]
    return pod


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        ("docker.io/vllm/vllm-openai:v1", f"{MIRROR}/vllm/vllm-openai:v1"),
        ("ghcr.io/a/b/c@sha256:00", f"{MIRROR}/a/b/c@sha256:00"),
        ("localhost/x:1", f"{MIRROR}/x:1"),
        ("host:5000/x:1", f"{MIRROR}/x:1"),
        ("vllm/vllm-openai:v1", f"{MIRROR}/vllm/vllm-openai:v1"),
        ("vllm-xpu-env:v1", f"{MIRROR}/vllm-xpu-env:v1"),
    ],
)
def test_a_mirror_takes_the_place_of_the_registry(make_plan: Any, reference: str, there: str) -> None:
    assert placement.mirrored(at(make_plan("vllm", "cuda"), registry=MIRROR), reference) == there


def test_every_image_of_every_target_comes_from_the_mirror(any_plan: Plan) -> None:
    plan = at(any_plan, registry=MIRROR)
    for target in targets():
        if target.slug in ("plan", "readme", "bench", "preload", "image") or target.supports(plan) is not None:
            continue
        for path, text in render(plan, [target.slug]).items():
            if path in ("plan.yaml", "PLAN.md", "bench.sh", "helm/values.schema.json"):
                continue
            for registry in ("docker.io/", "ghcr.io/", "nvcr.io/", "vault.habana.ai/", "registry.redhat.io/"):
                used = [line for line in text.splitlines() if f'"{registry}' in line or f"={registry}" in line]
                assert not used, (target.slug, path, used)


@pytest.mark.parametrize("target", ["kubernetes", "kserve", "openshift"])
def test_a_pod_takes_the_whole_site(make_plan: Any, variables_of: Any, target: str) -> None:
    plan = at(
        make_plan("vllm", "cuda", **({"image": {"arbitrary_user": True}} if target == "openshift" else {})),
        weights="pvc:models/llama/8b",
        ca_bundle="/etc/ssl/corp.pem",
        **CLOSED,
        **PROXIES,
    )
    file = {"kubernetes": "k8s.yaml", "kserve": "kserve.yaml", "openshift": "openshift.yaml"}[target]
    files = render(plan, [target])
    pod = pod_of(files[file])
    (server,) = pod["containers"]
    assert pod["imagePullSecrets"] == [{"name": "corp-pull"}]
    assert server["args"][0] == placement.MOUNTED_MODEL and not any("--revision" in word for word in server["args"])
    mounts = {mount["name"]: mount for mount in server["volumeMounts"]}
    assert mounts["weights"] == {
        "name": "weights",
        "mountPath": placement.MOUNTED_MODEL,
        "readOnly": True,
        "subPath": "llama/8b",
    }
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["weights"]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert volumes["ca"]["configMap"] == {"name": placement.CA_CONFIG_MAP}
    found = variables_of(files[file])
    assert found["HF_HUB_OFFLINE"] == found["TRANSFORMERS_OFFLINE"] == "1"
    assert found["HTTPS_PROXY"] == "http://proxy.corp:3128" and "127.0.0.1" in found["NO_PROXY"].split(",")
    assert found["SSL_CERT_FILE"] == placement.CA_FILE
    assert "env" not in server  # no token: nothing is fetched


def test_what_is_never_fetched_may_not_be_reached(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda")

    def ports(**site: Any) -> set[int]:
        documents = list(yaml.safe_load_all(render(at(plan, **site), ["kubernetes"])["k8s.yaml"]))
        (policy,) = [d for d in documents if d["kind"] == "NetworkPolicy"]
        return {row["port"] for row in policy["spec"]["egress"][0]["ports"]}

    assert ports(hub=False) == {53}
    assert ports(registry=MIRROR) == {53, 443}
    assert ports(**PROXIES) == {53, 3128}


def test_weights_in_an_image_are_a_volume(make_plan: Any) -> None:
    plan = at(make_plan("vllm", "cuda"), weights="oci:registry.corp.example/models/llama:1")
    files = render(plan, ["kubernetes", "helm"])
    volumes = {volume["name"]: volume for volume in pod_of(files["k8s.yaml"])["volumes"]}
    assert volumes["weights"]["image"]["reference"] == "registry.corp.example/models/llama:1"
    assert yaml.safe_load(files["helm/values.yaml"])["weights"]["image"] == "registry.corp.example/models/llama:1"
    assert tools.kubernetes({"k8s.yaml": files["k8s.yaml"]}).status != "failed"


@pytest.mark.parametrize("weights", ["pvc:models/llama", "oci:registry.corp.example/models/llama:1", None])
def test_the_chart_is_valid_at_such_a_site(
    make_plan: Any, helm: str, tmp_path: Any, variables_of: Any, weights: str | None
) -> None:
    plan = at(make_plan("vllm", "cuda"), weights=weights, ca_bundle="/etc/ssl/corp.pem", **CLOSED, **PROXIES)
    for path, text in render(plan, ["helm"]).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    subprocess.run([helm, "lint", "--strict", tmp_path / "helm"], check=True, capture_output=True)
    done = subprocess.run([helm, "template", tmp_path / "helm"], check=True, capture_output=True, text=True)
    deployment = next(d for d in yaml.safe_load_all(done.stdout) if d and d["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "corp-pull"}]
    assert ("weights" in {volume["name"] for volume in pod["volumes"]}) is (weights is not None)
    assert variables_of(done.stdout)["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("weights", "uri"),
    [
        ("s3://bucket/llama", "s3://bucket/llama"),
        ("pvc:models/llama", "pvc://models/llama"),
        ("oci:registry.corp.example/models/llama:1", "oci://registry.corp.example/models/llama:1"),
    ],
)
def test_kserve_fetches_by_uri(make_plan: Any, weights: str, uri: str) -> None:
    files = render(at(make_plan("vllm", "cuda"), weights=weights), ["kserve"])
    text = files.get("kserve-llm.yaml", files["kserve.yaml"])
    service = next(d for d in yaml.safe_load_all(text) if d["kind"] == "LLMInferenceService")
    assert service["spec"]["model"]["uri"] == uri and custom.problems(service) == ()


@pytest.mark.parametrize(
    ("weights", "target", "words"),
    [
        ("pvc:models", "docker", "dir:/absolute/path"),
        ("oci:r.example/m:1", "compose", "dir:/absolute/path"),
        ("s3://bucket/m", "kubernetes", "use target kserve"),
        ("s3://bucket/m", "helm", "use target kserve"),
        ("dir:/srv/m", "kubernetes", "pvc:CLAIM"),
        ("pvc:models", "production-stack", "fetches its weights from the Hub"),
        ("pvc:models", "llm-d", "fetches its weights from the Hub"),
        ("pvc:models", "endpoints", "has no mirror"),
    ],
)
def test_a_place_that_a_target_cannot_reach_is_refused(make_plan: Any, weights: str, target: str, words: str) -> None:
    reason = refused(at(make_plan("vllm", "cuda"), weights=weights), target)
    assert reason is not None and words in reason and "\n" not in reason


def test_a_folder_is_mounted_beside_the_certificates(make_plan: Any) -> None:
    plan = at(make_plan("vllm", "cuda"), weights="dir:/srv/my model", ca_bundle="/etc/ssl/a,b.pem")
    files = render(plan, ["docker", "compose"])
    service = yaml.safe_load(files["compose.yaml"])["x-server"]
    binds = {volume["target"]: volume["source"] for volume in service["volumes"] if volume["type"] == "bind"}
    assert binds == {placement.MOUNTED_MODEL: "/srv/my model", placement.CA_FILE: "/etc/ssl/a,b.pem"}
    assert service["command"][0] == placement.MOUNTED_MODEL
    assert "'/srv/my model'" in files["docker-run.sh"] and placement.CA_FILE in files["docker-run.sh"]
    assert "HF_TOKEN" not in files["docker-run.sh"]


def test_charts_carry_mirror_secret_and_proxy(make_plan: Any) -> None:
    plan = at(make_plan("vllm", "cuda"), registry=MIRROR, pull_secret="corp-pull", **PROXIES)
    files = render(plan, ["production-stack", "llm-d"])
    stack, llmd = (yaml.safe_load(files[f"{name}.yaml"]) for name in ("production-stack", "llm-d"))
    assert custom.values_problems("production-stack", stack) == () and custom.values_problems("llm-d", llmd) == ()
    (model,) = stack["servingEngineSpec"]["modelSpec"]
    assert model["imagePullSecret"] == "corp-pull" and model["repository"].startswith(MIRROR)
    assert stack["routerSpec"]["repository"].startswith(MIRROR)
    assert {row["name"] for row in model["env"]} >= {"HTTPS_PROXY", "NO_PROXY"}
    assert llmd["decode"]["extraConfig"]["imagePullSecrets"] == [{"name": "corp-pull"}]


def test_nim_takes_mirror_and_secret() -> None:
    plan = planner.recommend(
        model="llama3.1-8b", gpus="1xH100", engine="nim", site={"registry": MIRROR, "pull_secret": "corp-pull"}
    ).plan
    documents = yaml.safe_load_all(render(plan, ["nim-operator"])["nim-operator.yaml"])
    service = next(d for d in documents if d["kind"] == "NIMService")
    assert service["spec"]["image"]["repository"].startswith(MIRROR)
    assert service["spec"]["image"]["pullSecrets"] == ["corp-pull"]
    assert "fetches its weights from the Hub" in (refused(at(plan, hub=False), "nim") or "")
    proxied = list(yaml.safe_load_all(render(at(plan, **PROXIES), ["nim-operator"])["nim-operator.yaml"]))
    for document in (d for d in proxied if custom.has_schema(d)):
        assert custom.problems(document) == ()
        assert {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} <= {row["name"] for row in document["spec"]["env"]}


# --- what fills the site --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ({"registry": MIRROR}, "skopeo copy --all"),
        ({"hub": False}, "bash preload.sh fill"),
        ({"weights": "dir:/srv/a b"}, "'/srv/a b'"),
        ({"weights": "s3://bucket/m"}, "aws s3 sync"),
        ({"weights": "oci:r.example/m:1"}, "docker push r.example/m:1"),
        ({"weights": "pvc:models/x"}, "kubectl cp model"),
    ],
)
def test_preload_fetches_what_the_site_will_not(
    make_plan: Any, shellcheck: str, tmp_path: Any, site: dict[str, Any], words: str
) -> None:
    plan = at(make_plan("vllm", "cuda"), **site)
    text = render(plan)["preload.sh"]
    assert words in text and plan_launch(make_plan("vllm", "cuda")).image in text
    assert ("hf download" in text) is ("registry" not in site)
    (tmp_path / "preload.sh").write_text(text)
    subprocess.run([shellcheck, tmp_path / "preload.sh"], check=True, capture_output=True)


def test_preload_fetches_adapters_and_drafts_too(make_plan: Any) -> None:
    from planner.spec.features import Features

    plan = at(make_plan("vllm", "cuda"), hub=False)
    features = Features(speculative="eagle3", draft_model="o/head", draft_tokens=3, lora_adapters=("a=o/x",))
    plan = plan.model_copy(update={"best": plan.best.model_copy(update={"features": features})})
    text = render(plan, ["preload"])["preload.sh"]
    assert "hf download o/head" in text and "hf download o/x" in text
    closed = plan.model_copy(update={"request": plan.request.model_copy(update={"site": Site(weights="pvc:c")})})
    assert "fill the cache" in (refused(closed, "kubernetes") or "")


@pytest.mark.parametrize("registry", [None, MIRROR])
def test_preload_builds_the_plugins_image_and_fetches_the_tokenizer(
    make_plan: Any, shellcheck: str, tmp_path: Any, registry: str | None
) -> None:
    gguf = {"checkpoint": "b/Llama-GGUF", "file": "x-Q4_K_M.gguf", "gated": False}
    choice = {"plugin": "vllm-gguf-plugin"}
    plan = at(
        make_plan("vllm", "cuda", model=gguf, choice=choice, quantization="gguf:Q4_K_M"), registry=registry, hub=False
    )
    files, image = render(plan), plan_launch(plan).image
    text = files["preload.sh"]
    assert f"docker build --tag {image} " in text
    assert (f"docker push {image}" in text) is (registry is not None)
    assert "hf download b/Llama-GGUF --revision" in text and "--include x-Q4_K_M.gguf" in text
    assert "hf download meta-llama/Llama-3.1-8B-Instruct --include '*.json'" in text
    # hosts of a closed site take the image from the mirror
    assert ("docker build" in files["docker-run.sh"]) is ("build: ." in files["compose.yaml"]) is (registry is None)
    (tmp_path / "preload.sh").write_text(text)
    subprocess.run([shellcheck, tmp_path / "preload.sh"], check=True, capture_output=True)


def test_preload_fills_the_volume_that_docker_and_compose_mount(make_plan: Any) -> None:
    plan = at(make_plan("vllm", "cuda"), hub=False)
    files, name = render(plan), "llm-llama3-1-8b-vllm-weights"
    assert f"source={name}," in files["preload.sh"] and f"source={name}," in files["docker-run.sh"]
    assert yaml.safe_load(files["compose.yaml"])["volumes"]["weights"]["name"] == name


def test_an_open_site_needs_no_preload(make_plan: Any) -> None:
    assert "preload.sh" not in render(make_plan("vllm", "cuda"))
    assert "names no mirror" in (refused(make_plan("vllm", "cuda"), "preload") or "")


# --- hostile values ------------------------------------------------------------------------------

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30)


@pytest.mark.parametrize(
    "field", ["registry", "pull_secret", "http_proxy", "https_proxy", "no_proxy", "rdma", "topology_key"]
)
@given(text=NASTY)
def test_a_name_of_a_site_is_a_plain_one(field: str, text: str) -> None:
    try:
        held = getattr(Site(**{field: text}), field)
    except ValidationError:
        return
    assert not set(held) & set("'\"\\`$(){}[]<>|&;#!?~% \n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(path=NASTY.filter(lambda text: "\n" not in text and "/../" not in f"/{text}/"))
def test_a_path_stays_in_its_place(make_plan: Any, path: str) -> None:
    plan = at(make_plan("vllm", "cuda"), weights=f"dir:/{path}", ca_bundle=f"/{path}.pem")
    service = yaml.safe_load(render(plan, ["compose"])["compose.yaml"])["x-server"]
    binds = [v["source"].replace("$$", "$") for v in service["volumes"] if v["type"] == "bind"]
    assert f"/{path}.pem" in binds and set(service) == set(
        yaml.safe_load(
            render(at(make_plan("vllm", "cuda"), weights="dir:/a", ca_bundle="/b"), ["compose"])["compose.yaml"]
        )["x-server"]
    )


@pytest.mark.parametrize(
    "weights", ["pvc:a/../b", "dir:/a/../b", "dir:relative", "s3://b", "oci:noTag", "http://x", "pvc:A", "pvc:a b"]
)
def test_a_place_that_is_none_is_refused(weights: str) -> None:
    with pytest.raises(ValidationError):
        Site(weights=weights)


def test_a_proxy_with_a_password_is_refused() -> None:
    with pytest.raises(ValidationError, match="which no file may hold"):
        Site(https_proxy="http://user:pass@proxy:3128")
