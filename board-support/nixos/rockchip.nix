# U-Boot at fixed sectors of the medium, as the SoC's boot ROM and U-Boot's first stage expect.
args:
{ pkgs, ... }:
{
  imports = [ (import ./extlinux.nix args) ];

  # What the driver of the network controllers on PCIe asks for, which most of these boards have. The rest
  # of linux-firmware is hundreds of megabytes for other hardware.
  hardware.firmware = [
    (pkgs.runCommand "realtek-ethernet-firmware" { } ''
      mkdir -p $out/lib/firmware
      cp -r ${pkgs.linux-firmware}/lib/firmware/rtl_nic $out/lib/firmware
    '')
  ];
}
