"""What there is of memory is what the machine has, or the narrowest of the cgroups around this process."""

from pathlib import Path

from aruntime.control.machine import available_bytes

MIB = 1 << 20


def machine(root: Path, **files: str) -> Path:
    """A root with these files; `__` in a name is a folder, and every machine has 1000 MiB."""
    written = {"proc__meminfo": "MemTotal: 2048000 kB\nMemAvailable: 1024000 kB\n", "proc__self__cgroup": ""} | files
    for name, text in written.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_what_the_machine_has_available_is_told(tmp_path: Path) -> None:
    assert available_bytes(machine(tmp_path)) == 1000 * MIB
    assert 0 < available_bytes() < 1 << 50


def test_a_cgroup_of_version_2_bounds_it_at_any_level(tmp_path: Path) -> None:
    files = {
        "proc__self__cgroup": "0::/a/b\n",
        "sys__fs__cgroup__a__b__memory.max": "max\n",
        "sys__fs__cgroup__a__b__memory.current": "5\n",
        "sys__fs__cgroup__a__memory.max": f"{500 * MIB}\n",
        "sys__fs__cgroup__a__memory.current": f"{200 * MIB}\n",
        "sys__fs__cgroup__a__memory.stat": f"anon 3\ninactive_file {100 * MIB}\n",
    }
    assert available_bytes(machine(tmp_path, **files)) == 400 * MIB


def test_a_cgroup_of_version_1_bounds_it_also_where_the_path_is_the_hosts(tmp_path: Path) -> None:
    files = {
        "proc__self__cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/0123\n",
        "sys__fs__cgroup__memory__memory.limit_in_bytes": f"{100 * MIB}\n",
        "sys__fs__cgroup__memory__memory.usage_in_bytes": f"{50 * MIB}\n",
    }
    assert available_bytes(machine(tmp_path, **files)) == 50 * MIB


def test_a_cgroup_that_uses_more_than_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {
        "proc__self__cgroup": "0::/../x\n",
        "sys__fs__cgroup__memory.max": "100\n",
        "sys__fs__cgroup__memory.current": "200\n",
    }
    assert available_bytes(machine(tmp_path, **files)) == 0
