# An image with a GPT, made by systemd-repart: what boot loaders need; the seed's volume, near the beginning,
# where it is found without unpacking all of an image; and the root, which is last so that it can grow.
board: layout:
{ config, lib, modulesPath, pkgs, ... }:
let
  names = lib.importJSON ../appliance/names.json;
  inherit (pkgs) buildPackages;
  cfg = config.roost.image;
  inherit (config.system.build) toplevel;
  uefi = board.boot.layout == "uefi";
  label = "roost-root";

  number = n: lib.fixedWidthNumber 2 n;
  exactly = mib: {
    SizeMinBytes = "${toString mib}M";
    SizeMaxBytes = "${toString mib}M";
  };

  reserved = lib.listToAttrs (lib.imap1
    (n: part: lib.nameValuePair "${number n}-${part.name}" {
      repartConfig = { Type = part.type; Label = part.name; } // exactly part.mib;
    })
    (layout.reserve or [ ]));

  # systemd-boot as its module keeps it, with the first generation's entry.
  esp =
    let
      arch = pkgs.stdenv.hostPlatform.efiArch;
      systemdBoot = "${config.systemd.package}/lib/systemd/boot/efi/systemd-boot${arch}.efi";
      kernel = "${config.system.build.kernel}/${config.system.boot.loader.kernelFile}";
      initrd = "${config.system.build.initialRamdisk}/${config.system.boot.loader.initrdFile}";
      # As the module names its copies: the store path's name, then the file's.
      copy = path: "/EFI/nixos/${baseNameOf (dirOf path)}-${baseNameOf path}.efi";
      entry = pkgs.writeText "nixos-generation-1.conf" ''
        title NixOS
        sort-key nixos
        version Generation 1 NixOS ${config.system.nixos.label}
        linux ${copy kernel}
        initrd ${copy initrd}
        options init=${toplevel}/init ${toString config.boot.kernelParams}
      '';
    in
    {
      contents = {
        "/EFI/BOOT/BOOT${lib.toUpper arch}.EFI".source = systemdBoot;
        "/EFI/systemd/systemd-boot${arch}.efi".source = systemdBoot;
        "/loader/entries/nixos-generation-1.conf".source = entry;
        "/loader/loader.conf".source = pkgs.writeText "loader.conf" ''
          timeout ${toString config.boot.loader.timeout}
          default nixos-generation-*
          editor 0
        '';
        ${builtins.unsafeDiscardStringContext (copy kernel)}.source = kernel;
        ${builtins.unsafeDiscardStringContext (copy initrd)}.source = initrd;
      };
      repartConfig = { Type = "esp"; Format = "vfat"; Label = "ESP"; } // exactly 512;
    };
in
{
  imports = [ "${modulesPath}/image/repart.nix" ];

  image.repart = {
    name = "roost-${board.id}";
    # Every file of a store has an inode, and many are small.
    mkfsOptions.ext4 = [ "-i 8192" ];
    partitions = reserved // lib.optionalAttrs uefi { "20-esp" = esp; } // {
      "10-seed" = {
        contents."/${names.image_file}".source = cfg.description;
        # repart always makes FAT32, which is FAT32 for everybody from 65525 clusters on. That is 33 MiB;
        # what is smaller is FAT16 to many programs, and unreadable.
        repartConfig = { Type = "linux-generic"; Format = "vfat"; Label = names.seed_label; } // exactly 36;
      };
      "30-root" = {
        storePaths = [ toplevel ];
        contents = {
          ${cfg.registration}.source =
            "${buildPackages.closureInfo { rootPaths = [ toplevel ]; }}/registration";
        } // lib.optionalAttrs (!uefi) { "/boot".source = cfg.boot; };
        repartConfig = {
          Type = "root";
          Format = "ext4";
          Label = label;
          Minimize = "guess";
        };
      };
    };
  };

  roost.image = {
    unfinished = "${config.system.build.image}/*.raw";
    finish = ''
      ${lib.optionalString (layout ? move) ''
        echo "${layout.move}" | sfdisk --quiet --no-reread --no-tell-kernel --partno 1 $image
      ''}
      ${lib.optionalString (!uefi) ''
        # U-Boot looks for extlinux.conf on the partition that is marked as bootable. systemd-repart does
        # not write this mark, and leaves it alone.
        sfdisk --quiet --no-reread --no-tell-kernel \
          --part-attrs $image ${toString (lib.length (layout.reserve or [ ]) + 2)} LegacyBIOSBootable
      ''}
      ${import ./raw.nix { inherit lib board layout; uBoot = config.hardware.roost.uBoot; }}
      sfdisk --verify $image
    '';
  };

  # The partition grows before the file system does.
  boot.initrd.systemd.repart.enable = true;
  systemd.repart.partitions."30-root" = {
    Type = "root";
    Label = label;
  };
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-partlabel/${label}";
      fsType = "ext4";
      autoResize = true;
    };
  } // lib.optionalAttrs uefi {
    "/boot" = {
      device = "/dev/disk/by-partlabel/ESP";
      fsType = "vfat";
      options = [ "umask=0077" ];
    };
  };
}
