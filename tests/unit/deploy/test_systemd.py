"""The systemd units."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.services.postgres import missing

SYSTEMD = Path(__file__).parents[3] / "deploy" / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
PROGRAM = "/opt/rendermill/bin/rendermill"

units = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)


def settings_of(unit: Path) -> dict[str, list[str]]:
    """Each setting with its values; a unit may name one more than once."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"(?m)^(\w+)=(.*)$", unit.read_text()):
        found.setdefault(name, []).append(value)
    return found


def analyze(unit: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze on a copy whose program is one that this machine has."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        missing("systemd-analyze", "apt-get install systemd")
        raise AssertionError
    copy = folder / unit.name
    copy.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    return subprocess.run([tool, *words, str(copy)], capture_output=True, text=True, check=False)


@units
def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    verified = analyze(unit, tmp_path, "verify", "--man=no")

    assert (verified.returncode, verified.stderr) == (0, "")


def test_systemd_would_complain(tmp_path: Path) -> None:
    broken = tmp_path / "source" / "broken.service"
    broken.parent.mkdir()
    broken.write_text(UNITS[0].read_text().replace("KillMode=mixed", "KillMood=mixed"))

    assert "KillMood" in analyze(broken, tmp_path, "verify", "--man=no").stderr


@units
def test_a_unit_exposes_little(unit: Path, tmp_path: Path) -> None:
    # In tenths of systemd's scale from 0 to 10, on which a unit without settings has 9.6.
    judged = analyze(unit, tmp_path, "security", "--offline=true", "--threshold=25", "--no-pager")

    assert judged.returncode == 0, judged.stdout


@units
def test_it_runs_as_an_account_of_its_own(unit: Path) -> None:
    settings = settings_of(unit)
    (account,) = settings["User"]

    assert account == "rendermill"
    assert settings["NoNewPrivileges"] == ["yes"]
    assert settings["ProtectSystem"] == ["strict"]
    assert f"u {account} " in (SYSTEMD / "rendermill.sysusers").read_text()


@units
def test_it_may_write_where_its_environment_says(unit: Path) -> None:
    settings = settings_of(unit)
    environment = dict(pair.split("=") for pair in settings["Environment"][0].split())

    assert environment["RENDERMILL_HOME"] == f"/var/lib/{settings['StateDirectory'][0]}"
    if "HF_HOME" in environment:
        assert environment["HF_HOME"].startswith(f"/var/cache/{settings['CacheDirectory'][0]}/")


@units
def test_it_is_told_to_stop_and_then_killed(unit: Path) -> None:
    settings = settings_of(unit)

    assert settings["KillSignal"] == ["SIGTERM"]
    assert settings["KillMode"] == ["mixed"]
    grace = re.findall(r"--grace (\d+)", settings["ExecStart"][0])
    assert bool(grace) == ("worker" in unit.name)
    assert int(settings["TimeoutStopSec"][0]) >= int((grace or ["15"])[0]) + 15


@units
def test_it_comes_back_after_a_crash_but_not_with_wrong_settings(unit: Path) -> None:
    settings = settings_of(unit)

    assert settings["Restart"] == ["on-failure"]
    assert settings["RestartPreventExitStatus"] == ["2"]


def test_a_worker_unit_hides_no_graphics_card() -> None:
    settings = settings_of(SYSTEMD / "rendermill-worker.service")

    # ProtectClock implies a DeviceAllow, and with it that all other devices are closed.
    hiding = {"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock"}
    assert hiding.isdisjoint(settings)
