# The GPU's firmware on a FAT volume, which starts U-Boot from there, so that generations can be chosen.
{ board, nixosHardware } @ args:
{ config, lib, pkgs, ... }:
{
  imports = [ (import ./extlinux.nix args) ];

  # nixos-26.05 has no package for the U-Boot that runs on all of the 64-bit models.
  hardware.roost.uBoot = pkgs.ubootRaspberryPiAarch64 or (pkgs.buildUBoot {
    defconfig = "rpi_arm64_defconfig";
    extraMeta.platforms = [ "aarch64-linux" ];
    filesToInstall = [ "u-boot.bin" ];
  });

  hardware.raspberry-pi.firmware.uboot = {
    enable = true;
    package = config.hardware.roost.uBoot;
  };

  # Raspberry Pi's kernel as it is configured for the Pi 4, with pages of 4 KiB, which runs on the Pi 5 as
  # well: the configuration for the Pi 5 has pages of 16 KiB, which stop 32-bit programs, jemalloc and
  # whatever else was compiled for 4 KiB. The mainline kernel does not drive the fan of the Pi 5.
  boot.kernelPackages = lib.mkIf (board.kernel.source == "raspberry-pi") (pkgs.linuxPackagesFor
    (pkgs.callPackage "${nixosHardware}/raspberry-pi/common/kernel.nix" { rpiVersion = 4; }));

  # The kernel's own device tree for the mainline kernel. Raspberry Pi's kernel takes the firmware's, which
  # is that of the stepping of the SoC that it runs on.
  boot.loader.generic-extlinux-compatible.useGenerationDeviceTree =
    board.kernel.source == "mainline";

  # Nobody looks at a builder: the memory that graphics and cameras would have is for builds.
  hardware.raspberry-pi.configtxt = {
    settings.all = {
      camera_auto_detect = false;
      display_auto_detect = false;
      dtparam = [ "audio=off" ];
    };
    deviceTreeOverlays.all = [ ];
  };
}
