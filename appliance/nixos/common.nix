# What a board and a workstation share: the daemon, its user and its configuration.
{ config, lib, pkgs, ... }:
let
  names = lib.importJSON ../names.json;
  cfg = config.services.roost;
  format = pkgs.formats.toml { };

  # What is not set is left out, and so is a section of which nothing is set.
  settings = lib.filterAttrs (_: section: section != { })
    (lib.filterAttrsRecursive (_: value: value != null) cfg.settings);
  written = format.generate "roost.toml" settings;

  # A mistake stops the build of the system and not the daemon on the next boot. An image for another
  # architecture is checked by a program for the machine that builds it.
  checker =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      cfg.package
    else
      pkgs.buildPackages.roost;
  checked = pkgs.runCommand "roost.toml" { passthru = { inherit settings; }; } ''
    ${lib.getExe checker} check-config ${written} > /dev/null
    cp ${written} $out
  '';
in
{
  options.services.roost = {
    enable = lib.mkEnableOption "the roost daemon" // {
      internal = true;
    };

    package = lib.mkPackageOption pkgs "roost" { };

    settings = lib.mkOption {
      type = lib.types.submodule {
        freeformType = format.type;
        options = import ./settings.nix { inherit lib; anything = format.type; };
      };
      default = { };
      example = {
        board.slots = 2;
        queue.min_free_mib = 4096;
      };
      description = ''
        The contents of {file}`${names.config_file}`, as docs/configuration.md has them. The program
        checks them when the system is built: an unknown key or a value out of range stops the build.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc.${lib.removePrefix "/etc/" names.config_file}.source = checked;

    services.dbus.packages = [ cfg.package ];
    systemd.packages = [ cfg.package ];
    systemd.tmpfiles.packages = [ cfg.package ];
    systemd.services.roost = {
      wantedBy = [ "multi-user.target" ];
      path = [
        config.nix.package
        config.programs.ssh.package
        # agetty, which is told to show anew how the board stands to its fleet.
        pkgs.util-linux
      ];
      restartTriggers = [ checked ];
      # Restarted rather than stopped and started: when the service is stopped the machines file goes,
      # and a client of Nix that looks meanwhile has no builders for the rest of its session.
      stopIfChanged = false;
    };

    # A nix-daemon for the second store, since the daemon itself may not make sandboxes.
    systemd.sockets.roost-emulation.wantedBy =
      lib.optional (cfg.settings.workstation.emulate_here == true) "sockets.target";

    users.groups.${names.group} = { };
    users.users.${names.user} = {
      isSystemUser = true;
      inherit (names) group;
      description = "roost build sessions";
      home = names.state_dir;
      # sshd starts the forced command with the user's shell.
      shell = "/bin/sh";
    };

    services.avahi = {
      enable = true;
      ipv6 = lib.mkDefault true;
      nssmdns4 = lib.mkDefault true;
      # Room for a network on which somebody announces without end: Avahi, whose own limit is 4096,
      # takes in nothing new once its cache is full.
      cacheEntriesMax = lib.mkDefault 16384;
    };
  };
}
