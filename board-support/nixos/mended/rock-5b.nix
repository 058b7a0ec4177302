# Without what it brings of Radxa's other boards: bcachefs, systemd-boot and the newest kernel.
{ lib, ... }:
{
  hardware.radxa.enable = lib.mkForce false;
}
