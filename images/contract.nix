# What the program relies on in every image: a FAT partition for the seed, a root that grows to the
# medium on first boot, and a Nix database that knows the store it was shipped with.
{ config, lib, pkgs, modulesPath, ... }:
let
  names = lib.importJSON ../appliance/names.json;
  closure = pkgs.closureInfo { rootPaths = [ config.system.build.toplevel ]; };
  registration = "/nix/path-registration";
in
{
  imports = [ "${modulesPath}/image/repart.nix" ];

  services.roost.board.enable = true;

  image.repart = {
    name = config.networking.hostName;
    partitions = {
      "10-seed".repartConfig = {
        Type = "linux-generic";
        Format = "vfat";
        Label = names.seed_label;
        # repart always makes FAT32, which is FAT32 for everybody from 65525 clusters on. That is
        # 33 MiB; what is smaller is FAT16 to many programs, and unreadable.
        SizeMinBytes = "36M";
        SizeMaxBytes = "36M";
      };
      "20-root" = {
        storePaths = [ config.system.build.toplevel ];
        contents.${registration}.source = "${closure}/registration";
        repartConfig = {
          Type = "root";
          Format = "ext4";
          Label = "root";
          Minimize = "guess";
        };
      };
    };
  };

  # The partition grows before it is mounted, the file system when it is.
  boot.initrd.systemd.enable = true;
  boot.initrd.systemd.repart.enable = true;
  systemd.repart.partitions."20-root" = {
    Type = "root";
    Label = "root";
  };
  fileSystems."/" = {
    device = "/dev/disk/by-partlabel/root";
    fsType = "ext4";
    autoResize = true;
    # A build writes thousands of files, and reads each of them.
    options = [ "noatime" ];
  };

  # Without this the database of a fresh image is empty, and garbage collection takes the system.
  # The file is removed last: a boot that is cut short loads it again, which does no harm.
  systemd.services.nix-path-registration = {
    description = "Tell Nix which paths this image came with";
    wantedBy = [ "multi-user.target" ];
    before = [ "nix-daemon.service" "nix-daemon.socket" "roost.service" ];
    unitConfig = {
      ConditionPathExists = registration;
      DefaultDependencies = false;
      RequiresMountsFor = "/nix";
    };
    after = [ "local-fs.target" ];
    serviceConfig.Type = "oneshot";
    script = ''
      ${lib.getExe' config.nix.package "nix-store"} --load-db < ${registration}
      ${lib.getExe' config.nix.package "nix-env"} --profile /nix/var/nix/profiles/system \
        --set /run/current-system
      sync --file-system /nix/var/nix/db
      rm ${registration}
    '';
  };

  # SD cards wear out.
  services.journald.extraConfig = ''
    SystemMaxUse=64M
  '';
  zramSwap.enable = true;

  # State of the program is on the root, which is the only partition that lasts.
  assertions = [
    {
      assertion = !(config.fileSystems ? ${names.state_dir});
      message = "images: ${names.state_dir} is a part of the root";
    }
  ];

  boot.loader.grub.enable = false;
  documentation.enable = false;
  system.stateVersion = "26.05";
}
