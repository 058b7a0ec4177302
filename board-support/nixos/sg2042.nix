# The SoC's boot loader and LinuxBoot on a FAT volume; LinuxBoot reads extlinux.conf and starts the system
# with kexec.
{ nixosHardware, ... } @ args:
{ config, pkgs, ... }:
let
  from = name: nixosHardware + "/milkv/pioneer/${name}.nix";
  call = name: pkgs.callPackage (from name) { };
in
{
  imports = [ (import ./extlinux.nix args) ];

  # As nixos-hardware puts them onto its own images. BOOT tells the boot loader to start from this medium.
  hardware.roost.firmwareFiles =
    let
      firmware = pkgs.callPackage (from "firmware") {
        fip = call "fip";
        zsbl = call "zsbl";
        opensbi = call "opensbi";
        linuxboot-kernel = call "linuxboot-kernel";
        linuxboot-initrd = call "linuxboot-initrd";
        dtbs = config.hardware.deviceTree.package;
      };
    in
    pkgs.runCommand "pioneer-boot-files" { } ''
      cp -r ${firmware} $out
      chmod u+w $out
      touch $out/BOOT
    '';

  # LinuxBoot replaces the kernel's parameters, console and all, so systemd does not find the console.
  systemd.services."serial-getty@ttyS0" = {
    enable = true;
    wantedBy = [ "getty.target" ];
    serviceConfig.Restart = "always";
  };
}
