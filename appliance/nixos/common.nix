# What a board and a workstation share: the daemon, its user and its configuration.
{ config, lib, pkgs, ... }:
let
  names = lib.importJSON ../names.json;
  cfg = config.services.roost;
  format = pkgs.formats.toml { };
  written = format.generate "roost.toml" cfg.settings;

  # A mistake stops the build of the system and not the daemon on the next boot. Only the program
  # knows its keys, so only a machine that can run it can check.
  checked =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "roost.toml" { } ''
        ${lib.getExe cfg.package} check-config ${written} > /dev/null
        cp ${written} $out
      ''
    else
      written;
in
{
  options.services.roost = {
    enable = lib.mkEnableOption "the roost daemon" // {
      internal = true;
    };

    package = lib.mkPackageOption pkgs "roost" { };

    settings = lib.mkOption {
      type = lib.types.submodule { freeformType = format.type; };
      default = { };
      example = {
        board.slots = 2;
        queue.min_free_mib = 4096;
      };
      description = "The contents of {file}`${names.config_file}`: see docs/configuration.md.";
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
    };

    # A nix-daemon for the second store, since the daemon itself may not make sandboxes.
    systemd.sockets.roost-emulation.wantedBy =
      lib.optional (cfg.settings.workstation.emulate_here or false) "sockets.target";

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
      nssmdns4 = lib.mkDefault true;
    };
  };
}
