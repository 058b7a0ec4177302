# An image with an MBR, made by sd-image: a FAT volume, which is the seed's and the boot firmware's, and the
# root, which is last so that it can grow.
board: layout:
{ config, lib, modulesPath, options, pkgs, ... }:
let
  names = lib.importJSON ../appliance/names.json;
  cfg = config.roost.image;
in
{
  imports = [ "${modulesPath}/installer/sd-card/sd-image.nix" ];

  sdImage = {
    compressImage = false;
    expandOnBoot = false;
    firmwarePartitionName = names.seed_label;
    firmwarePartitionOffset = layout.offset_mib or 8;
    # mkfs.vfat makes FAT16 of this, which is FAT16 to everybody below 65525 clusters.
    firmwareSize = layout.fat_mib or 36;
    # nixos-hardware's modules for Raspberry Pi force theirs, which this adds to.
    populateFirmwareCommands = lib.mkForce ''
      ${lib.optionalString (config.hardware.roost.firmwareFiles != null) ''
        cp -r --no-preserve=mode ${config.hardware.roost.firmwareFiles}/. firmware
      ''}
      cp ${cfg.description} firmware/${names.image_file}
    '';
    populateRootCommands = ''
      mkdir -p files
      cp -r --no-preserve=mode ${cfg.boot} files/boot
    '';
  } // lib.optionalAttrs (options.sdImage ? rootVolumeLabel) {
    # Other NixOS media are called NIXOS_SD, and may be plugged in, too.
    rootVolumeLabel = "ROOST_ROOT";
  };

  # What sd-image does on first boot is done by the contract, and by what grows the root.
  boot.postBootCommands = lib.mkForce "";

  roost.image = {
    unfinished = "${config.system.build.sdImage}/sd-image/*.img";
    finish = ''
      # U-Boot looks for extlinux.conf on the partition that is marked as bootable.
      sfdisk --quiet --no-reread --no-tell-kernel --activate $image 2
      ${import ./raw.nix { inherit lib board layout; uBoot = config.hardware.roost.uBoot; }}
      sfdisk --verify $image
    '';
  };

  # Unlike systemd-repart, growpart knows MBRs.
  boot.growPartition = true;
  fileSystems."/".autoResize = true;
}
