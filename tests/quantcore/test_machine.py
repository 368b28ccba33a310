import pytest
import torch

from quantcore import machine
from quantcore.errors import InputError, ResourceError


def test_the_cache_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "kept"))
    assert machine.cache_dir() == tmp_path / "kept"
    monkeypatch.delenv("QUANTCORE_CACHE")
    assert machine.cache_dir().name == "quantcore"


def test_available_memory_is_no_more_than_the_host_has():
    assert 0 < machine.available_memory() <= machine.describe()["memory_gib"] * (1 << 30) * 1.1


def control_group(folder, limit, used, reclaimable):
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {reclaimable}\n")
    return folder


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CGROUP", control_group(tmp_path, 1000, 800, 300))
    assert machine.available_memory() == 500


def test_a_container_without_limit_has_the_hosts_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CGROUP", control_group(tmp_path, "max", 800, 300))
    assert machine.available_memory() > 1000


def test_too_much_memory_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device: 1 << 30)
    machine.require_memory(1 << 30, "a step")
    with pytest.raises(ResourceError, match=r"^a step needs about 2\.5 GiB .* 1\.0 GiB are free; "):
        machine.require_memory(5 << 29, "a step")


@pytest.mark.parametrize(("gpus", "kind"), [(0, "cpu"), (1, "cuda")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, gpus, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert machine.resolve_device("auto").type == kind
    assert machine.resolve_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert machine.resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="device cuda:2 is not there: this machine has 2 CUDA"):
        machine.resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["", "mps", "gpu", "cuda:x", "cuda:-1", "meta"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(InputError, match=f"device must be auto, cpu, cuda or cuda:N, got '{name}'"):
        machine.resolve_device(name)


def test_a_result_can_record_where_it_was_made():
    described, versions = machine.describe(), machine.versions()
    assert described["cores"] >= 1
    assert all(described.values())
    assert versions["torch"] == torch.__version__
    assert {"python", "transformers", "aqviz"} <= versions.keys()


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(machine, "is_offline_mode", lambda: False)
    machine._answers.cache_clear()
    yield
    machine._answers.cache_clear()


def test_no_answer_means_unreachable_at_once(monkeypatch, online):
    calls = []

    def refuse(request, timeout):
        calls.append((request.method, timeout))
        raise OSError("no route")

    monkeypatch.setattr(machine.urllib.request, "urlopen", refuse)
    assert not machine.hub_reachable()
    assert not machine.hub_reachable()
    assert calls == [("HEAD", machine.HUB_SECONDS)]  # remembered, not asked again


def test_the_answer_is_forgotten_after_a_minute(monkeypatch, online):
    clock = [0.0]
    monkeypatch.setattr(machine, "monotonic", lambda: clock[0])
    monkeypatch.setattr(machine.urllib.request, "urlopen", lambda *_, **__: open("/dev/null"))  # noqa: SIM115,PTH123
    assert machine.hub_reachable()
    monkeypatch.setattr(machine.urllib.request, "urlopen", lambda *_, **__: 1 / 0)
    assert machine.hub_reachable()
    clock[0] = 61.0
    with pytest.raises(ZeroDivisionError):
        machine.hub_reachable()


def test_offline_mode_asks_nobody(monkeypatch):
    monkeypatch.setattr(machine, "is_offline_mode", lambda: True)
    monkeypatch.setattr(machine.urllib.request, "urlopen", lambda *_, **__: 1 / 0)
    assert not machine.hub_reachable()
