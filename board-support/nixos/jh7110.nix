# U-Boot in partitions of its own, which the SoC's boot ROM finds by their types; or in SPI flash, where
# it came with the board and may be too old for the kernel.
args:
{ config, lib, pkgs, ... }:
{
  imports = [ (import ./extlinux.nix args) ];

  # U-Boot knows which revision of the board this is, and with it the device tree.
  hardware.deviceTree.filter = "jh7110-*.dtb";

  # Brings the U-Boot in SPI flash up to date: visionfive2-firmware-update-flash, for Star64, too.
  environment.systemPackages = [ pkgs.mtdutils ]
    ++ lib.optional (config.system.build ? updater-flash) config.system.build.updater-flash;
}
