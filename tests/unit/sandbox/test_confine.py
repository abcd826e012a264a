import struct

import pytest

from agentgym.sandbox.guest import confine, syscalls

_ALLOW, _KILL = 0x7FFF0000, 0x80000000


def run_filter(program: bytes, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Interpret the filter as the kernel would; returns its verdict."""
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(arguments + (0,) * 6)[:6])
    steps = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at, register = 0, 0
    while True:
        code, yes, no, value = steps[at]
        at += 1
        if code == 0x20:
            register = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return value
        else:
            holds = {0x15: register == value, 0x25: register > value, 0x35: register >= value, 0x45: register & value}[code]
            at += yes if holds else no


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("metadata", [False, True])
def test_filter_denies_what_it_names_and_nothing_else(arch: str, metadata: bool) -> None:
    program = confine.filter_program(program=True, metadata=metadata, arch=arch)
    number = syscalls.AUDIT_ARCH[arch]
    denied = {*syscalls.always(arch).values(), *syscalls.program(arch).values()}
    if metadata:
        denied |= set(syscalls.metadata(arch).values())
    special = syscalls.special(arch)
    for call in range(syscalls.LAST + 1):
        verdict = run_filter(program, number, call)
        if call == special["clone3"]:
            assert verdict == 0x00050000 | 38
        elif call in denied:
            assert verdict == 0x00050000 | 1, call
        else:
            assert verdict == _ALLOW, call
    assert run_filter(program, number, syscalls.LAST + 1) == 0x00050000 | 38


def test_filter_judges_arguments() -> None:
    program, arch = confine.filter_program(program=True, arch="x86_64"), syscalls.AUDIT_ARCH["x86_64"]
    special = syscalls.special("x86_64")
    for namespace in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert run_filter(program, arch, special["clone"], (17 | namespace,)) == 0x00050001
    assert run_filter(program, arch, special["clone"], (17,)) == _ALLOW
    assert run_filter(program, arch, special["ioctl"], (0, 0x5412)) == 0x00050001
    assert run_filter(program, arch, special["ioctl"], (0, 0x5401)) == _ALLOW
    assert run_filter(program, arch, special["prlimit64"], (1,)) == 0x00050001
    assert run_filter(program, arch, special["prlimit64"], (0,)) == _ALLOW
    assert run_filter(program, arch, special["prctl"], (36,)) == 0x00050001


def test_foreign_calls_are_killed() -> None:
    program = confine.filter_program(program=True, arch="x86_64")
    assert run_filter(program, syscalls.AUDIT_ARCH["aarch64"], 63) == _KILL
    assert run_filter(program, 0x40000003, 4) == _KILL  # 32-bit x86
    assert run_filter(program, syscalls.AUDIT_ARCH["x86_64"], 0x40000000 | 41) == _KILL  # x32


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(confine.ConfineError, match="riscv64"):
        confine.filter_program(program=True, arch="riscv64")


def test_zygote_may_do_what_programs_may_not() -> None:
    outer, arch = confine.filter_program(program=False, arch="x86_64"), syscalls.AUDIT_ARCH["x86_64"]
    assert run_filter(outer, arch, syscalls.program("x86_64")["setpgid"]) == _ALLOW
    assert run_filter(outer, arch, syscalls.always("x86_64")["unshare"]) == 0x00050001
