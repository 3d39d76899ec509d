"""The model puller on a volume of the cluster: whole, once, by several at a time, and still there for the next pod."""

import json
import secrets
import time

import pytest

from e2e.cluster.loading import Images
from e2e.cluster.platform import APPLY
from e2e.cluster.stages import Clock

MAKE_SOURCE = """\
import hashlib, pathlib, random
chance = random.Random(7)
for name, size in (("config.json", 200), ("model-1.safetensors", 9_000_000), ("model-2.safetensors", 7_000_001)):
    pathlib.Path("/source/tiny", name).parent.mkdir(exist_ok=True)
    pathlib.Path("/source/tiny", name).write_bytes(chance.randbytes(size))
"""
LOOK = """\
import hashlib, pathlib
for path in sorted(pathlib.Path("/model").rglob("*")):
    if path.is_file(): print(path.relative_to("/model"), hashlib.sha256(path.read_bytes()).hexdigest())
"""
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


class Volume:
    """A namespace with one volume, and pods that come and go on it."""

    def __init__(self, place, image: str) -> None:
        self.place, self.image, self.name = place, image, f"windtunnel-storage-{secrets.token_hex(3)}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}})
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "200Mi"}}}
        about = {"name": "model", "namespace": self.name}
        self.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": about, "spec": spec})

    def apply(self, *objects) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.place.programs.must(*APPLY, seconds=60, given=text)

    def pod(self, name: str, *command: str, source: str = "file:///source/tiny") -> None:
        """Start a pod: the puller, or a command in its image."""
        mounts = [{"name": part, "mountPath": f"/{part}"} for part in ("model", "source", "tmp")]
        common = {"image": self.image, "imagePullPolicy": "IfNotPresent", "volumeMounts": mounts}
        common["securityContext"] = RESTRICTED
        main = {"name": "main", "env": [{"name": "MODEL_SOURCE", "value": source}], **common}
        spec = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001},
            "initContainers": [{"name": "source", "command": ["python", "-c", MAKE_SOURCE], **common}],
            "containers": [main | ({"command": list(command)} if command else {})],
            "volumes": [
                {"name": "model", "persistentVolumeClaim": {"claimName": "model"}},
                {"name": "source", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
            ],
        }
        about = {"name": name, "namespace": self.name}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec})

    def ended(self, name: str) -> tuple[int, str]:
        """Wait until a pod has ended; return its exit code and what it said."""
        words = ("kubectl", "-n", self.name)
        deadline = time.monotonic() + 120
        while True:
            pod = json.loads(self.place.programs.must(*words, "get", "pod", name, "-o", "json", seconds=30))
            if pod["status"]["phase"] in ("Succeeded", "Failed"):
                [state] = [one["state"]["terminated"] for one in pod["status"]["containerStatuses"]]
                return state["exitCode"], self.place.programs.must(*words, "logs", name, "-c", "main", seconds=30)
            assert time.monotonic() < deadline, f"pod {name} is {pod['status']}"
            time.sleep(0.5)

    def delete(self, name: str) -> None:
        self.place.programs.must("kubectl", "-n", self.name, "delete", "pod", name, seconds=60)

    def files(self, name: str) -> dict[str, str]:
        """Return the checksums of what a fresh pod finds on the volume."""
        self.pod(name, "python", "-c", LOOK)
        code, said = self.ended(name)
        assert code == 0, said
        return dict(line.split() for line in said.splitlines())


@pytest.fixture(scope="module")
def volume(place):
    """A volume, with the puller's image on the nodes."""
    images = Images(place, names=("model-puller",))
    if place.given is None:
        images.bring(Clock(time.monotonic() + 600))
    volume = Volume(place, images.references[0])
    yield volume
    place.programs.must("kubectl", "delete", "namespace", volume.name, "--wait=false", seconds=60)


def test_a_model_is_pulled_whole_and_outlives_the_pod(volume) -> None:
    volume.pod("pulls")
    code, said = volume.ended("pulls")
    assert code == 0, said
    volume.delete("pulls")

    there = volume.files("looks")

    models = {name: digest for name, digest in there.items() if name.startswith("tiny/")}
    assert {"tiny/config.json", "tiny/model-1.safetensors", "tiny/model-2.safetensors"} <= set(models)


def test_the_next_pod_finds_it_complete_and_two_at_once_do_no_harm(volume) -> None:
    before = volume.files("before")
    volume.pod("again-1")
    volume.pod("again-2")

    assert [volume.ended(name)[0] for name in ("again-1", "again-2")] == [0, 0]
    after = volume.files("after")
    assert {name: after.get(name) for name in before if ".safetensors" in name} == {
        name: digest for name, digest in before.items() if ".safetensors" in name
    }


def test_a_source_that_is_not_there_ends_with_a_code_that_a_pod_can_act_on(volume) -> None:
    volume.pod("lost", source="file:///source/nothing")
    code, said = volume.ended("lost")

    assert code == 3, said
    assert not [name for name in volume.files("left") if name.startswith("nothing/")]
