import platform

from sparsify.benchmarks import machine
from sparsify.benchmarks.machine import describe_machine


def test_the_machine_is_described():
    described = describe_machine({"toy": "1"})
    assert described.cores >= 1
    assert described.python == platform.python_version()
    assert all((described.cpu, described.isa, described.torch, described.onnxruntime))
    assert described.engines == {"toy": "1"}


def test_instructions_are_those_that_the_processor_has(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "_CPU_INFO", info)
    info.write_text("model name\t: Some CPU\nflags\t\t: sse2 avx2 fma avx512f avx512_vnni\n\n")
    assert describe_machine().cpu == "Some CPU"
    assert describe_machine().isa == "AVX2, FMA, AVX-512, AVX-512 VNNI"
    info.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert describe_machine().isa == "NEON, DOTPROD"
    assert describe_machine().cpu
