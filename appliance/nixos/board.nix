# A board: a machine that builds for others.
{ config, lib, options, ... }:
let
  names = lib.importJSON ../names.json;
  cfg = config.services.roost.board;
  inherit (config.services.roost) settings;
  sshd = config.services.openssh;

  onlyBoard = settings.workstation.enable == false;
  mib = 1024 * 1024;

  # What roost wants free for a build to begin. Nix makes room well before that, or nothing would
  # begin and nothing be deleted.
  wantedFree = (if settings.queue.min_free_mib == null then 1024 else settings.queue.min_free_mib) * mib;

  # Nix takes the folder from its configuration since 2.22, and from the environment before that.
  hasBuildDir = lib.versionAtLeast (lib.getVersion config.nix.package) "2.22"
    && lib.getName config.nix.package != "lix";

  # A drop-in of ours is for one user, whom sshd's other rules may keep out.
  allows = list: names': list == null || lib.any (name: lib.elem name list) names';
  denied = list: names': list != null && lib.any (name: lib.elem name list) names';
  keptOut =
    let
      rule = name: sshd.settings.${name} or null;
    in
    lib.optional (!allows (rule "AllowUsers") [ names.user ]) "AllowUsers"
    ++ lib.optional (!allows (rule "AllowGroups") [ names.group ]) "AllowGroups"
    ++ lib.optional (denied (rule "DenyUsers") [ names.user ]) "DenyUsers"
    ++ lib.optional (denied (rule "DenyGroups") [ names.group ]) "DenyGroups";

  tellsTime = lib.any (name: config.services.${name}.enable or false)
    [ "timesyncd" "chrony" "ntp" "ntpd-rs" "openntpd" ];
in
{
  imports = [ ./common.nix ];

  options.services.roost.board = {
    enable = lib.mkEnableOption "building for the workstations on the local network";

    stateDevice = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "/dev/.+");
      default = null;
      example = "/dev/disk/by-id/nvme-SAMSUNG_MZVL2512HCJQ-00B00_S675NX0RC01234-part1";
      description = ''
        A block device for {file}`${names.state_dir}` and the folders that Nix builds in, such as a
        partition of an NVMe disk where the root is an SD card. An ext4 file system is made if the
        device is empty; one that is there is used as it is. Without the device the machine boots, and
        roost does not start. `null`: all is on the root.
      '';
    };
  };

  config = lib.mkIf cfg.enable (lib.mkMerge [
    {
      services.roost = {
        enable = true;
        settings.board = {
          enable = true;
          port = lib.mkDefault (lib.head sshd.ports);
          # A sshd that is started for each connection reads its configuration each time.
          reload_sshd = lib.mkIf sshd.startWhenNeeded (lib.mkDefault [ ]);
        };
        settings.workstation.enable = lib.mkDefault false;
      };

      # The units that only a board has, by what starts them.
      systemd.services.roost-first-boot = {
        wantedBy = [ "multi-user.target" ];
        # What it does, it does while the machine boots.
        restartIfChanged = false;
      };
      systemd.paths.roost-update.wantedBy = [ "multi-user.target" ];
      systemd.services.roost-update-trial = {
        # A system on trial may end in emergency mode, too, and goes back from there.
        wantedBy = [ "multi-user.target" "emergency.target" ];
        # Switching to a system is no boot with it.
        restartIfChanged = false;
      };

      services.avahi = {
        publish = {
          enable = true;
          addresses = lib.mkDefault true;
          userServices = true;
        };
        # The kernel's host name, which a seed may have given.
        hostName = lib.mkDefault "";
      };

      services.openssh = {
        enable = true;
        # The key that a board proves, and no other: an RSA key takes a small board long to make.
        hostKeys = lib.mkDefault [
          { path = names.ssh_host_key; type = "ed25519"; }
        ];
        # Before whatever ends in a Match block, which would make this a part of it.
        extraConfig = lib.mkBefore ''
          Include ${config.services.roost.package}/etc/ssh/sshd_config.d/50-roost.conf
        '';
      };

      nix.settings = {
        # What a build is sealed from elsewhere, it is sealed from here.
        sandbox-fallback = lib.mkDefault false;
        # Make room when the disk fills up, rather than fail builds. Nothing else deletes: roost holds
        # what its queue needs, and does not hold what a later job could have used again.
        min-free = lib.mkDefault (lib.max (2048 * mib) (2 * wantedFree));
        max-free = lib.mkDefault (lib.max (8192 * mib) (4 * wantedFree));
        # Boards lose power. Without this Nix calls a path valid before its files are on the disk: after a power
        # cut they may be empty, and what is built with them is wrong.
        sync-before-registering = lib.mkDefault true;
        # Each of roost's builds has a connection of its own, and is told its cores there: how many run
        # is roost's decision. This is for what is built past roost, such as the board's own system.
        max-jobs = lib.mkIf onlyBoard (lib.mkDefault 1);
      };

      # A build user for each slot, and for what is built past roost.
      nix.nrBuildUsers = lib.mkIf (!(config.nix.settings.auto-allocate-uids or false)) (
        lib.mkOverride 900 (lib.max 32 (8 + (if lib.isInt settings.board.slots then settings.board.slots else 0)))
      );

      # SD cards wear out, and memory is short.
      zramSwap.enable = lib.mkDefault true;

      assertions = [
        {
          assertion = lib.any (key: key.path == names.ssh_host_key) sshd.hostKeys;
          message = ''
            services.roost.board: sshd has to show the host key ${names.ssh_host_key}, by which the
            fleet knows this board: add it to services.openssh.hostKeys.
          '';
        }
        {
          assertion = keptOut == [ ];
          message = ''
            services.roost.board: sshd lets nobody build, by
            services.openssh.settings.${lib.concatStringsSep ", " keptOut}: let in the user
            ${names.user} (group ${names.group}), who gets the builder's command and nothing else.
          '';
        }
      ];

      warnings =
        lib.optional (config.boot.binfmt.emulatedSystems != [ ]) ''
          services.roost.board: this board emulates ${toString config.boot.binfmt.emulatedSystems}; a
          native board of the fleet is always preferred for them.
        ''
        ++ lib.optional (config.nix.settings.sandbox == false) ''
          services.roost.board: nix.settings.sandbox is off, so that what others build here sees this
          machine's files and network.
        ''
        ++ lib.optional (!tellsTime) ''
          services.roost.board: no time service is enabled; a board without a battery for its clock
          takes valid certificates for expired. Enable services.timesyncd or another one.
        '';
    }

    # Bounded, under the name that this release of NixOS has for it.
    (if options.services.journald ? settings then
      { services.journald.settings.Journal.SystemMaxUse = lib.mkDefault "64M"; }
    else
      { services.journald.extraConfig = lib.mkBefore "SystemMaxUse=64M"; })

    # A board that hangs starts anew, and goes on with its queue.
    (if options.systemd ? settings then
      { systemd.settings.Manager.RuntimeWatchdogSec = lib.mkDefault "30s"; }
    else
      { systemd.watchdog.runtimeTime = lib.mkDefault "30s"; })

    (lib.mkIf (cfg.stateDevice != null) {
      fileSystems.${names.state_dir} = {
        device = cfg.stateDevice;
        fsType = "ext4";
        autoFormat = true;
        options = [
          "noatime"
          # The machine boots without it. What is made in it is made when it is there, or is not going
          # to be.
          "nofail"
          "x-systemd.before=systemd-tmpfiles-setup.service"
          "x-systemd.device-timeout=30s"
        ];
      };
      systemd.services.roost.unitConfig.RequiresMountsFor = [ names.state_dir ];
      systemd.tmpfiles.rules = [ "d ${names.builds_dir} 0755 root root -" ];
      nix.settings.build-dir = lib.mkIf hasBuildDir (lib.mkDefault names.builds_dir);
      systemd.services.nix-daemon.environment.TMPDIR =
        lib.mkIf (!hasBuildDir) (lib.mkDefault names.builds_dir);
    })
  ]);
}
